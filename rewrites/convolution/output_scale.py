"""A factor per channel after a convolution goes into its weight and bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Term, Value, op, rule, var
from ..linear.operands import along, require_constant, require_divisor, require_factor, require_float
from .weights import (
    by_output,
    by_transposed_output,
    channel_dims,
    output_channels,
    restored,
    transposed_output_channels,
)

x, w, b, c, a = var("x w b c a")

conv = op.Conv(x, w, attributes=a)
conv_bias = op.Conv(x, w, b, attributes=a)
transposed = op.ConvTranspose(x, w, attributes=a)
transposed_bias = op.ConvTranspose(x, w, b, attributes=a)

CONV = {"x": "f32[2,4,5,5]", "w": "f32[6,2,3,3] const", "b": "f32[6] const", "a": {"group": 2, "pads": (1, 1, 1, 1)}}
TRANSPOSED = {"x": "f32[2,4,5]", "w": "f32[4,3,3] const", "b": "f32[6] const", "a": {"group": 2, "strides": (2,)}}


def _bias(b: Value | None) -> Value | None:
    if b is not None:
        require_constant(b, "the bias")
    return b


@rule(
    op.Mul(conv, c),
    op.Mul(conv_bias, c),
    drift="rounding",
    peers="ORT L1 ConvMulFusion, onnxslim, onnxsim, onnxscript",
    example=[
        {**CONV, "c": "f32[1,6,1,1] const"},
        {**CONV, "c": "f32[] = 0.5"},
        {"x": "f16[1,4,7]", "w": "f16[3,4,1] const", "b": "f16[3] const", "a": {}, "c": "f16[3,1] const"},
        {"x": "f32[N,4,5,6]", "w": "f32[6,4,3,3] const", "b": "f32[6] const", "a": {}, "c": "f32[6,1,1] const"},
    ],
    refuse=[
        {**CONV, "c": "f32[5] const", "because": "another axis"},
        {**CONV, "c": "f32[6,1,1]", "because": "computed"},
        {**CONV, "c": "f32[] = inf", "because": "not finite"},
        {**CONV, "w": "f32[6,2,3,3]", "c": "f32[6,1,1] const", "because": "the weight is computed"},
        {**CONV, "w": "f32[1,4,3,3] const", "b": "f32[1] const", "a": {}, "c": "f32[6,1,1] const", "because": "larger"},
    ],
)
def scale_after_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b)·c = Conv(x, w·c, b·c) for a number c per output channel."""
    require_float(x)
    require_factor(c)
    vector, bias = along(c, 1, channel_dims(w, output_channels(w))), _bias(b)
    weight = op.Mul(w, by_output(w, vector))
    return op.Conv(x, weight, op.Mul(bias, vector) if bias else None, **a)


@rule(
    op.Div(conv, c),
    op.Div(conv_bias, c),
    drift="rounding",
    peers="onnxslim",
    example=[{**CONV, "c": "f32[6,1,1] = 1 2 3 4 5 6"}, {**CONV, "c": "f32[1] = 3"}],
    refuse=[
        {**CONV, "c": "f32[6,1,1] = 1 0 1 1 1 1", "because": "zeros"},
        {**CONV, "c": "f32[2,1,1,1] = 1 2", "because": "another axis"},
    ],
)
def divisor_after_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b)/c = Conv(x, w/c, b/c) for a number c per output channel."""
    require_float(x)
    require_divisor(c)
    vector, bias = along(c, 1, channel_dims(w, output_channels(w))), _bias(b)
    weight = op.Div(w, by_output(w, vector))
    return op.Conv(x, weight, op.Div(bias, vector) if bias else None, **a)


@rule(
    op.Neg(conv),
    op.Neg(conv_bias),
    drift="rounding",
    example=CONV,
    refuse={**CONV, "w": "f32[6,2,3,3]", "because": "computed"},
)
def negated_conv(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """-Conv(x, w, b) = Conv(x, -w, -b)."""
    require_constant(w, "the weight")
    bias = _bias(b)
    return op.Conv(x, op.Neg(w), op.Neg(bias) if bias else None, **a)


@rule(
    op.Mul(transposed, c),
    op.Mul(transposed_bias, c),
    drift="rounding",
    peers="onnxslim, onnxscript",
    example=[
        {**TRANSPOSED, "c": "f32[6,1] const"},
        {"x": "f32[1,2,4,4]", "w": "f32[2,3,2,2] const", "b": "f32[3] const", "a": {}, "c": "f32[] = 2"},
    ],
    refuse=[
        {**TRANSPOSED, "c": "f32[11] const", "because": "another axis"},
        {**TRANSPOSED, "b": "f32[6]", "c": "f32[6,1] const", "pattern": 1, "because": "the bias is computed"},
    ],
)
def scale_after_conv_transpose(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """ConvTranspose(x, w, b)·c = ConvTranspose(x, w·c, b·c) for a number c per output channel."""
    require_float(x)
    require_factor(c)
    group = int(a.get("group", 1))
    vector, bias = along(c, 1, channel_dims(w, transposed_output_channels(w, group))), _bias(b)
    weight = restored(op.Mul(*by_transposed_output(w, vector, group)), w, group)
    return op.ConvTranspose(x, weight, op.Mul(bias, vector) if bias else None, **a)
