"""LayerNormalization from its parts (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

Exporters older than opset 17 write nine operators. `rms_norm` has already found the division by the root of the mean
square; what is left is that the mean was taken off before, a scale after and a bias last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .normalisation import as_scale, is_all, normalised_sizes, product, reduced_axes

x, m, w, s, b, c, axes, p, attributes = var("x m w s b c axes p attributes")
centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))


@rule(
    op.RMSNormalization(centred, s, attributes=attributes),
    op.RMSNormalization(op.Transpose(centred, perm=p), s, attributes=attributes),
    drift="rounding",
    peers="ORT L1, onnxsim",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = 2", "s": "f32[8]", "attributes": {"epsilon": 1e-6}, "pattern": 0},
        {"x": "f16[2,8]", "axes": "i64[1] = -1", "s": "f16[8]", "attributes": {}, "pattern": 0},
        {"x": "f32[2,3,8]", "axes": "i64[2] = 1 2", "s": "f32[3,8]", "attributes": {"axis": 1}, "pattern": 0},
        {"x": "f32[2,3,8]", "axes": "i64[1] = 1", "s": "f32[3]", "p": (0, 2, 1), "attributes": {}, "pattern": 1},
    ],
    refuse=[
        {
            "x": "f32[2,3,8]",
            "axes": "i64[1] = 2",
            "s": "f32[3,8]",
            "attributes": {"axis": 1},
            "pattern": 0,
            "because": "other axes",
        },
        {
            "x": "f32[2,3,8]",
            "axes": "i64[1] = 2",
            "s": "f32[3]",
            "p": (0, 2, 1),
            "attributes": {},
            "pattern": 1,
            "because": "other axes",
        },
    ],
)
def layer_norm(x: Value, axes: Value, s: Value, p: tuple[int, ...] | None, attributes: Mapping[str, Any]) -> Term:
    """RMSNormalization(x - mean(x), s) = LayerNormalization(x, s), both over the same axes."""
    rank = x.rank
    last = range(attributes.get("axis", -1) % rank, rank)
    normalised = sorted(last if p is None else (p[a] for a in last))
    if list(reduced_axes(x, axes)) != normalised:
        raise Skip("the mean is taken over other axes than the root mean square")
    return op.LayerNormalization(x if p is None else op.Transpose(x, perm=p), s, **attributes)


@rule(
    op.Mul(op.LayerNormalization(x, s, attributes=attributes), w),
    op.Mul(op.LayerNormalization(x, s, b, attributes=attributes), w),
    drift="rounding",
    peers="ORT L1",
    example=[
        {"x": "f32[2,8]", "s": "f32[8] = 1", "b": "f32[8] const", "attributes": {"epsilon": 1e-6}, "w": "f32[8] const"},
        {"x": "f32[2,8]", "s": "f32[8] const", "b": "f32[8] const", "attributes": {}, "w": "f32[1,8] const"},
        {"x": "f16[2,8]", "s": "f16[8] = 1", "attributes": {}, "w": "f16[8]", "pattern": 0},
    ],
    refuse=[
        {"x": "f32[2,8]", "s": "f32[8] = 1", "attributes": {}, "w": "f32[2,8]", "pattern": 0, "because": "varies"},
        {
            "x": "f32[2,8]",
            "s": "f32[8] = 1",
            "b": "f32[8]",
            "attributes": {},
            "w": "f32[8]",
            "pattern": 1,
            "because": "ahead",
        },
    ],
)
def layer_norm_scale(x: Value, s: Value, b: Value | None, w: Value, attributes: Mapping[str, Any]) -> Term:
    """LayerNormalization(x, s, b) · w = LayerNormalization(x, s·w, b·w)."""
    lengths = normalised_sizes(x, attributes.get("axis", -1))
    scale = product(s, w, x.rank, lengths)
    if b is None:
        return op.LayerNormalization(x, scale, **attributes)
    return op.LayerNormalization(x, scale, product(b, w, x.rank, lengths), **attributes)


@rule(
    op.Add(op.LayerNormalization(x, s, attributes=attributes), c),
    op.Add(op.LayerNormalization(x, s, b, attributes=attributes), c),
    drift="rounding",
    peers="ORT L1",
    example=[
        {"x": "f32[2,8]", "s": "f32[8]", "b": "f32[8] const", "attributes": {"epsilon": 1e-6}, "c": "f32[8] const"},
        {"x": "f32[2,3,8]", "s": "f32[8]", "attributes": {}, "c": "f32[1,1,8] const", "pattern": 0},
        {"x": "f16[2,8]", "s": "f16[8]", "attributes": {}, "c": "f16[8]", "pattern": 0},
    ],
    refuse=[
        {"x": "f32[2,8]", "s": "f32[8]", "attributes": {}, "c": "f32[2,8]", "pattern": 0, "because": "varies along"},
        {
            "x": "f32[2,8]",
            "s": "f32[8]",
            "b": "f32[8]",
            "attributes": {},
            "c": "f32[8] const",
            "pattern": 1,
            "because": "ahead",
        },
    ],
)
def layer_norm_bias(x: Value, s: Value, b: Value | None, c: Value, attributes: Mapping[str, Any]) -> Term:
    """LayerNormalization(x, s, b) + c = LayerNormalization(x, s, b + c)."""
    lengths = normalised_sizes(x, attributes.get("axis", -1))
    bias = as_scale(c, x.rank, lengths)
    if b is None or is_all(b, 0.0):
        return op.LayerNormalization(x, s, bias, **attributes)
    if b.shape != lengths or not (b.is_const and c.is_const):
        raise Skip("the sum of the two biases is not known ahead of time")
    return op.LayerNormalization(x, s, op.Add(b, bias), **attributes)


mean = op.ReduceMean(x, axes, keepdims=1)


@rule(
    op.Add(op.Mul(x, s), op.Sub(b, op.Mul(mean, s))),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = 2", "s": "f32[2,3,8]", "b": "f32[8] const"},
        {"x": "f16[2,8]", "axes": "i64[1] = 1", "s": "f16[8] const", "b": "f16[8] const"},
    ],
)
def centred_first(x: Value, axes: Value, s: Value, b: Value) -> Term:
    """x·s + (b - mean(x)·s) = (x - mean(x))·s + b: TensorFlow's order of a normalisation, taken apart."""
    return op.Add(op.Mul(op.Sub(x, op.ReduceMean(x, axes, keepdims=1)), s), b)
