"""A summand per channel after a convolution goes into its bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Term, Value, op, rule, var
from ..linear.operands import along, require_constant, require_float
from .output_scale import CONV, TRANSPOSED, conv, conv_bias, transposed, transposed_bias
from .weights import channel_dims, output_channels, transposed_output_channels

c = var("c")


def _vector(c: Value, b: Value | None, w: Value, channels: int) -> Term:
    if b is not None:
        require_constant(b, "the bias")
    return along(c, 1, channel_dims(w, channels))


@rule(
    op.Add(conv, c),
    op.Add(conv_bias, c),
    drift="rounding",
    peers="ORT L1 ConvAddFusion, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        {**CONV, "c": "f32[1,6,1,1] const"},
        {**CONV, "c": "f32[] = 0.5"},
        {"x": "f16[1,4,7]", "w": "f16[3,4,1] const", "b": "f16[3] const", "a": {}, "c": "f16[3,1] const"},
        {"x": "f32[N,4,5,6]", "w": "f32[6,4,3,3]", "b": "f32[6] const", "a": {}, "c": "f32[6,1,1] const"},
    ],
    refuse=[
        {**CONV, "c": "f32[5,5] const", "because": "another axis"},
        {**CONV, "c": "f32[6,1,1]", "because": "computed"},
        {**CONV, "c": "f32[1,1,6,1,1] const", "because": "adds a dimension"},
    ],
)
def shift_after_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) + c = Conv(x, w, b + c) for a number c per output channel."""
    require_float(x)
    vector = _vector(c, b, w, output_channels(w))
    return op.Conv(x, w, vector if b is None else op.Add(b, vector), **a)


@rule(
    op.Sub(conv, c),
    op.Sub(conv_bias, c),
    drift="rounding",
    peers="onnxslim",
    example=[{**CONV, "c": "f32[6,1,1] const"}, {**CONV, "c": "f32[1,1,1,1] = 3"}],
    refuse={**CONV, "c": "f32[5] const", "because": "another axis"},
)
def difference_after_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) - c = Conv(x, w, b - c) for a number c per output channel."""
    require_float(x)
    vector = _vector(c, b, w, output_channels(w))
    return op.Conv(x, w, op.Neg(vector) if b is None else op.Sub(b, vector), **a)


@rule(
    op.Sub(c, conv),
    op.Sub(c, conv_bias),
    drift="rounding",
    example=[{**CONV, "c": "f32[6,1,1] const"}, {**CONV, "c": "f32[] = 1"}],
    refuse={**CONV, "w": "f32[6,2,3,3]", "c": "f32[] = 1", "because": "the weight is computed"},
)
def conv_subtracted(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Sub(c, Conv(x, w, b)) = Conv(x, -w, c - b) for a number c per output channel."""
    require_float(x)
    require_constant(w, "the weight")
    vector = _vector(c, b, w, output_channels(w))
    return op.Conv(x, op.Neg(w), vector if b is None else op.Sub(vector, b), **a)


@rule(
    op.Add(transposed, c),
    op.Add(transposed_bias, c),
    drift="rounding",
    peers="onnxslim, onnxscript",
    example=[
        {**TRANSPOSED, "c": "f32[6,1] const"},
        {"x": "f32[1,2,4,4]", "w": "f32[2,3,2,2] const", "b": "f32[3] const", "a": {}, "c": "f32[] = 2"},
    ],
    refuse={**TRANSPOSED, "c": "f32[11] const", "because": "another axis"},
)
def shift_after_conv_transpose(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """ConvTranspose(x, w, b) + c = ConvTranspose(x, w, b + c) for a number c per output channel."""
    require_float(x)
    vector = _vector(c, b, w, transposed_output_channels(w, int(a.get("group", 1))))
    return op.ConvTranspose(x, w, vector if b is None else op.Add(b, vector), **a)
