"""Channels of a convolution's result that are taken, or added up, are taken or added up among its weights.

A Split is a Slice for each part (`shape/split_as_slices`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float

x, w, b, a, begin, end, axes, steps = var("x w b a begin end axes steps")

CONV = {"x": "f32[2,4,5,6]", "w": "f32[6,4,3,3] const", "b": "f32[6] const", "a": {"pads": (1, 1, 1, 1)}}
SLICE = {**CONV, "begin": "i64[1] = 1", "end": "i64[1] = 4", "axes": "i64[1] = 1", "steps": "i64[1] = 2"}
conv = op.Conv(x, w, attributes=a)
conv_bias = op.Conv(x, w, b, attributes=a)


def _require_dense(x: Value, w: Value, a: Mapping[str, Any]) -> None:
    require_float(x)
    require_constant(w, "the weight")
    if int(a.get("group", 1)) != 1:
        raise Skip("the convolution has groups")


def _part(w: Value, begin: Value, end: Value, steps: Value | None = None) -> Term:
    return op.Slice(w, begin, end, ints(0), steps)


@rule(
    *(op.Slice(c, begin, end, axes, *last) for c in (conv, conv_bias) for last in ((), (steps,))),
    drift="rounding",
    example=[
        SLICE,
        {**SLICE, "begin": "i64[1] = 1", "end": "i64[1] = -1", "axes": "i64[1] = -3"},
    ],
    refuse=[
        {**SLICE, "axes": "i64[1] = 2", "because": "channels"},
        {**SLICE, "w": "f32[6,2,3,3] const", "a": {"group": 2}, "because": "groups"},
        {**SLICE, "w": "f32[6,4,3,3]", "because": "computed"},
    ],
)
def slice_of_conv(
    x: Value,
    w: Value,
    b: Value | None,
    begin: Value,
    end: Value,
    axes: Value,
    steps: Value | None,
    a: Mapping[str, Any],
) -> Term:
    """Conv(x, w, b)[:, i:j] = Conv(x, w[i:j], b[i:j])."""
    _require_dense(x, w, a)
    if [int(k) % w.rank for k in axes.array.reshape(-1)] != [1]:
        raise Skip("what is taken is not a range of channels")
    require_constant(begin, "the range")
    require_constant(end, "the range")
    bias = None if b is None else _part(b, begin, end, steps)
    return op.Conv(x, _part(w, begin, end, steps), bias, **a)


def _added(reduce: Any, x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    _require_dense(x, w, a)
    if [int(k) % w.rank for k in axes.array.reshape(-1)] != [1]:
        raise Skip("the sum is not over the channels")
    return op.Conv(x, reduce(w, ints(0), keepdims=1), None if b is None else reduce(b, ints(0), keepdims=1), **a)


@rule(
    op.ReduceSum(conv, axes, keepdims=1),
    op.ReduceSum(conv_bias, axes, keepdims=1),
    drift="rounding",
    peers="onnxsim",
    example={**CONV, "axes": "i64[1] = 1"},
    refuse=[
        {**CONV, "axes": "i64[1] = 2", "because": "channels"},
        {**CONV, "axes": "i64[2] = 1 2", "because": "channels"},
    ],
)
def sum_of_channels(x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    """Σ over channels of Conv(x, w, b) = Conv(x, Σw, Σb)."""
    return _added(op.ReduceSum, x, w, b, axes, a)


@rule(
    op.ReduceMean(conv, axes, keepdims=1),
    op.ReduceMean(conv_bias, axes, keepdims=1),
    drift="rounding",
    example={**CONV, "axes": "i64[1] = 1"},
    refuse={**CONV, "axes": "i64[1] = 2", "because": "channels"},
)
def mean_of_channels(x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    """Mean over channels of Conv(x, w, b) = Conv(x, mean of w, mean of b)."""
    return _added(op.ReduceMean, x, w, b, axes, a)
