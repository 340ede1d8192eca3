"""A factor per channel before a convolution goes into its weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import along, ints, require_constant, require_divisor, require_factor, require_float
from .weights import by_input, input_channels, restored

x, w, b, c, a = var("x w b c a")

CONV = {"x": "f32[2,4,5,5]", "w": "f32[6,2,3,3] const", "b": "f32[6] const", "a": {"group": 2, "pads": (1, 1, 1, 1)}}
TRANSPOSED = {"x": "f32[2,4,5]", "w": "f32[4,3,3] const", "b": "f32[6] const", "a": {"group": 2, "strides": (2,)}}


def _vector(x: Value, w: Value, c: Value, channels: int) -> Term:
    require_float(x)
    if x.rank != w.rank or x.shape[1] != channels:
        raise Skip("the constant makes the convolution's input larger")
    return along(c, 1, x.shape)


@rule(
    op.Conv(op.Mul(x, c), w, attributes=a),
    op.Conv(op.Mul(x, c), w, b, attributes=a),
    drift="rounding",
    peers="onnxsim",
    example=[
        {**CONV, "c": "f32[1,4,1,1] const"},
        {**CONV, "c": "f32[] = 0.5"},
        {"x": "f16[1,4,7]", "w": "f16[3,4,1] const", "b": "f16[3] const", "a": {}, "c": "f16[4,1] const"},
        {"x": "f32[N,4,5,6]", "w": "f32[6,4,3,3] const", "b": "f32[6]", "a": {}, "c": "f32[4,1,1] const"},
    ],
    refuse=[
        {**CONV, "c": "f32[5] const", "because": "another axis"},
        {**CONV, "c": "f32[4,1,1]", "because": "computed"},
        {**CONV, "c": "f32[4,1,1] = 1 2 inf 3", "because": "not finite"},
        {**CONV, "w": "f32[6,2,3,3]", "c": "f32[4,1,1] const", "because": "the weight is computed"},
        {**CONV, "x": "f32[2,1,5,5]", "c": "f32[4,1,1] const", "because": "larger"},
    ],
)
def scale_before_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x·c, w, b) = Conv(x, w·c, b) for a number c per input channel: padding is zero on both sides."""
    require_factor(c)
    group = int(a.get("group", 1))
    vector = _vector(x, w, c, input_channels(w, group))
    return op.Conv(x, restored(op.Mul(*by_input(w, vector, group)), w, group), b, **a)


@rule(
    op.Conv(op.Div(x, c), w, attributes=a),
    op.Conv(op.Div(x, c), w, b, attributes=a),
    drift="rounding",
    example=[{**CONV, "c": "f32[4,1,1] = 1 2 3 4"}, {**CONV, "c": "f32[] = 255"}],
    refuse={**CONV, "c": "f32[4,1,1] = 1 0 2 3", "because": "zeros"},
)
def divisor_before_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x/c, w, b) = Conv(x, w/c, b) for a number c per input channel."""
    require_divisor(c)
    group = int(a.get("group", 1))
    vector = _vector(x, w, c, input_channels(w, group))
    return op.Conv(x, restored(op.Div(*by_input(w, vector, group)), w, group), b, **a)


@rule(
    op.Conv(op.Neg(x), w, attributes=a),
    op.Conv(op.Neg(x), w, b, attributes=a),
    drift="rounding",
    example=CONV,
    refuse={**CONV, "w": "f32[6,2,3,3]", "because": "the weight is computed"},
)
def conv_of_negated(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """Conv(-x, w, b) = Conv(x, -w, b)."""
    require_constant(w, "the weight")
    return op.Conv(x, op.Neg(w), b, **a)


@rule(
    op.ConvTranspose(op.Mul(x, c), w, attributes=a),
    op.ConvTranspose(op.Mul(x, c), w, b, attributes=a),
    drift="rounding",
    example=[
        {**TRANSPOSED, "c": "f32[4,1] const"},
        {"x": "f32[1,2,4,4]", "w": "f32[2,3,2,2] const", "b": "f32[3] const", "a": {}, "c": "f32[] = 2"},
    ],
    refuse={**TRANSPOSED, "c": "f32[5] const", "because": "another axis"},
)
def scale_before_conv_transpose(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """ConvTranspose(x·c, w, b) = ConvTranspose(x, w·c, b) for a number c per input channel."""
    require_factor(c)
    require_constant(w, "the weight")
    channels = w.static_shape[0]  # ConvTranspose's weight is [I, O/g, k…] whatever the groups
    vector = _vector(x, w, c, channels)
    return op.ConvTranspose(x, op.Mul(w, op.Reshape(vector, ints(channels, *(1,) * (w.rank - 1)))), b, **a)
