"""Convolutions of one input that are added, or stand side by side, are one convolution.

RepVGG and MobileOne train blocks of parallel branches (3x3, 1x1, identity) that inference merges (arXiv:2101.03697).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from ..linear.operands import along, full, ints, require_constant, require_factor, require_float
from .geometry import Geometry, of_convolution
from .weights import by_output, channel_dims, output_channels

x, y, w, b, v, d, c, a, e, axis = var("x y w b v d c a e axis")
rest = Rest("rest")

PADS = {"pads": (1, 1, 1, 1)}
BRANCHES = {
    "x": "f32[2,4,5,6]",
    "w": "f32[6,2,3,3] const",
    "b": "f32[6] const",
    "a": {"group": 2, **PADS},
    "v": "f32[6,2,1,1] const",
    "d": "f32[6] const",
    "e": {"group": 2},
}
IDENTITY = {
    "x": "f32[2,4,5,6]",
    "w": "f32[4,2,3,3] const",
    "b": "f32[4] const",
    "a": {"group": 2, **PADS},
    "c": "f32[4,1,1] const",
}
BESIDE = {**BRANCHES, "a": PADS, "w": "f32[6,4,3,3] const", "v": "f32[3,4,3,3] const", "d": "f32[3] const", "e": PADS}

conv = op.Conv(x, w, attributes=a)
conv_bias = op.Conv(x, w, b, attributes=a)
other = op.Conv(x, v, attributes=e)
other_bias = op.Conv(x, v, d, attributes=e)


def _sum(b: Value | None, d: Value | None) -> Term | None:
    for bias in (b, d):
        if bias is not None:
            require_constant(bias, "a bias")
    if b is None or d is None:
        return d if b is None else b
    return op.Add(b, d)


def _place(large: Geometry, small: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many taps of the large kernel lie before and after the small one's.

    Raises:
        Skip: the small kernel's taps are not taps of the large one.
    """
    if (large.strides, large.group) != (small.strides, small.group):
        raise Skip("the convolutions differ in strides or groups")
    before: list[int] = []
    after: list[int] = []
    for axis, step in enumerate(large.dilations):
        if small.kernel[axis] > 1 and small.dilations[axis] != step:
            raise Skip("the convolutions differ in dilations")
        first, apart = divmod(large.begin[axis] - small.begin[axis], step)
        last = large.kernel[axis] - small.kernel[axis] - first
        if apart or first < 0 or last < 0 or large.end[axis] - small.end[axis] != last * step:
            raise Skip("one kernel does not lie within the other")
        before.append(first)
        after.append(last)
    return tuple(before), tuple(after)


def _widened(v: Value | Term, before: tuple[int, ...], after: tuple[int, ...]) -> Term:
    return op.Pad(v, ints(0, 0, *before, 0, 0, *after)) if any(before) or any(after) else v


@rule(
    op.Add(conv, other),
    op.Add(conv_bias, other),
    op.Add(conv_bias, other_bias),
    drift="rounding",
    example=[
        BRANCHES,
        {**BRANCHES, "v": "f32[6,2,3,3] const", "e": {"group": 2, **PADS}},
        {**BRANCHES, "a": {"group": 2, "strides": (2, 2), **PADS}, "e": {"group": 2, "strides": (2, 2)}},
        {**BRANCHES, "a": {"group": 2, "dilations": (2, 2), "pads": (2, 2, 2, 2)}},
    ],
    refuse=[
        {**BRANCHES, "x": "f32[2,4,3,3]", "w": "f32[6,2,2,2] const", "a": {"group": 2}, "because": "within"},
        {**BRANCHES, "w": "f32[6,2,3,3]", "because": "computed"},
        {
            **BRANCHES,
            "a": {"group": 2, "strides": (2, 2), **PADS},
            "e": {"group": 2, "strides": (2, 2), "pads": (0, 0, 1, 1)},
            "because": "within",
        },
    ],
)
def sum_of_convs(
    x: Value,
    w: Value,
    b: Value | None,
    v: Value,
    d: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """Conv(x, w, b) + Conv(x, v, d) = Conv(x, w + v, b + d), the smaller kernel within the larger."""
    require_float(x)
    require_constant(w, "a weight")
    require_constant(v, "a weight")
    if output_channels(w) != output_channels(v):
        raise Skip("the convolutions differ in channels")
    first, second = of_convolution(w, a), of_convolution(v, e)
    if first.kernel < second.kernel:
        w, v, first, second = v, w, second, first
    weight = op.Add(w, _widened(v, *_place(first, second)))
    return op.Conv(x, weight, _sum(b, d), **first.attributes())


def _with_identity(x: Value, w: Value, a: Mapping[str, Any]) -> tuple[Term, Geometry]:
    """The kernel that copies the input, shaped like the weight [C, C/g, k…]."""
    require_float(x)
    require_constant(w, "the weight")
    shape = of_convolution(w, a)
    channels, inputs = w.static_shape[:2]
    if x.rank != w.rank or x.shape[1] != channels or not shape.dense:
        raise Skip("the convolution's result is not shaped like its input")
    if channels * inputs > 1 << 20:
        raise Skip("the weight is too large")
    none = (0,) * (w.rank - 2)
    pixel = replace(shape, kernel=(1,) * (w.rank - 2), begin=none, end=none)
    copy = full(0.0, (channels, inputs, *pixel.kernel), x)
    for channel in range(channels):
        copy[channel, channel % inputs] = 1
    return _widened(op.Reshape(copy, ints(*copy.shape)), *_place(shape, pixel)), shape


@rule(
    op.Add(conv, x),
    op.Add(conv_bias, x),
    drift="rounding",
    example=[IDENTITY, {"x": "f16[N,3,5]", "w": "f16[3,3,1] const", "b": "f16[3]", "a": {}}],
    refuse=[
        {
            **IDENTITY,
            "a": {"group": 2, "pads": (1, 1, 1, 1), "strides": (2, 2)},
            "x": "f32[2,4,1,1]",
            "because": "shaped",
        },
        {**IDENTITY, "w": "f32[4,2,3,3]", "because": "computed"},
        {**IDENTITY, "x": "f32[2,4,5,1]", "a": {"group": 2, "pads": (1, 2, 1, 3)}, "because": "within"},
    ],
)
def conv_plus_input(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) + x = Conv(x, w + 1, b), where 1 is the kernel that copies its input."""
    copy, _ = _with_identity(x, w, a)
    return op.Conv(x, op.Add(w, copy), b, **a)


@rule(
    op.Add(conv, op.Mul(x, c)),
    op.Add(conv_bias, op.Mul(x, c)),
    drift="rounding",
    example=[IDENTITY, {**IDENTITY, "c": "f32[] = 2", "x": "f32[N,4,5,6]"}],
    refuse=[
        {**IDENTITY, "c": "f32[6] const", "because": "another axis"},
        {**IDENTITY, "c": "f32[4,1,1]", "because": "computed"},
    ],
)
def conv_plus_scaled_input(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) + x·c = Conv(x, w + c, b) for a number c per channel."""
    require_factor(c)
    copy, _ = _with_identity(x, w, a)
    vector = along(c, 1, channel_dims(w, output_channels(w)))
    return op.Conv(x, op.Add(w, op.Mul(copy, by_output(w, vector))), b, **a)


@rule(
    op.Add(conv, op.Add(y, c)),
    op.Add(conv_bias, op.Add(y, c)),
    drift="rounding",
    example=[{**IDENTITY, "y": "f32[2,4,5,6]"}, {**IDENTITY, "y": "f32[4,1,1]", "c": "f32[] = 2"}],
    refuse=[
        {**IDENTITY, "y": "f32[2,4,5,6]", "c": "f32[6] const", "because": "another axis"},
        {**IDENTITY, "y": "f32[2,4,5,6]", "b": "f32[4]", "pattern": 1, "because": "computed"},
    ],
)
def conv_plus_shifted(x: Value, y: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) + (y + c) = Conv(x, w, b + c) + y for a number c per channel."""
    require_float(x)
    if b is not None:
        require_constant(b, "the bias")
    vector = along(c, 1, channel_dims(w, output_channels(w)))
    return op.Add(op.Conv(x, w, vector if b is None else op.Add(b, vector), **a), y)


@rule(
    op.Concat(conv, other, rest, axis=axis),
    op.Concat(conv_bias, other_bias, rest, axis=axis),
    drift="rounding",
    example=[
        {**BESIDE, "axis": 1},
        {**BESIDE, "axis": -3, "rest": ("f32[2,1,5,6]",)},
        {**BESIDE, "a": {"strides": (2, 2), **PADS}, "e": {"strides": (2, 2), **PADS}, "axis": 1},
    ],
    refuse=[
        {**BESIDE, "v": "f32[6,4,3,3] const", "d": "f32[6] const", "axis": 0, "because": "channels"},
        {**BESIDE, "v": "f32[3,4,1,1] const", "e": {}, "axis": 1, "because": "geometry"},
    ],
)
def convs_side_by_side(
    x: Value,
    w: Value,
    b: Value | None,
    v: Value,
    d: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
    axis: int,
    rest: tuple[Value, ...],
) -> Term:
    """Concat(Conv(x, w, b), Conv(x, v, d)) = Conv(x, w beside v, b beside d), along the channels."""
    require_float(x)
    require_constant(w, "a weight")
    require_constant(v, "a weight")
    first, second = of_convolution(w, a), of_convolution(v, e)
    if first != second or first.group != 1:
        raise Skip("the convolutions differ in geometry, or have groups")
    if axis % w.rank != 1:
        raise Skip("the results are not joined along the channels")
    bias = None if b is None or d is None else op.Concat(b, d, axis=0)
    merged = op.Conv(x, op.Concat(w, v, axis=0), bias, **first.attributes())
    return op.Concat(merged, *rest, axis=axis) if rest else merged
