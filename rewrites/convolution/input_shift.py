"""A summand per channel before a convolution without padding goes through its weight into its bias.

With padding it must stay: zeros would have to become the summand's negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import along, ints, require_constant, require_factor, require_float
from .geometry import of_convolution
from .input_scale import CONV as PADDED
from .weights import by_input, input_channels

x, w, b, c, a = var("x w b c a")

CONV = {**PADDED, "a": {"group": 2, "strides": (2, 2)}}


def _response(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """What the convolution answers to the constant alone, per output channel: Σ w·c."""
    require_float(x)
    require_factor(c)
    if b is not None:
        require_constant(b, "the bias")
    shape = of_convolution(w, a)
    if shape.padded:
        raise Skip("the convolution pads its input with zeros")
    if x.rank != w.rank or x.shape[1] != input_channels(w, shape.group):
        raise Skip("the constant makes the convolution's input larger")
    weighted = op.Mul(*by_input(w, along(c, 1, x.shape), shape.group))
    axes = range(1 if shape.group == 1 else 2, w.rank + (shape.group != 1))
    return op.Reshape(op.ReduceSum(weighted, ints(*axes), keepdims=0), ints(-1))


@rule(
    op.Conv(op.Add(x, c), w, attributes=a),
    op.Conv(op.Add(x, c), w, b, attributes=a),
    drift="rounding",
    example=[
        {**CONV, "c": "f32[1,4,1,1] const"},
        {**CONV, "c": "f32[] = 0.5"},
        {"x": "f16[1,4,7]", "w": "f16[3,4,1] const", "b": "f16[3] const", "a": {}, "c": "f16[4,1] const"},
        {"x": "f32[N,4,5,6]", "w": "f32[6,4,3,3] const", "b": "f32[6] const", "a": {}, "c": "f32[4,1,1] const"},
        {**CONV, "a": {"group": 2, "auto_pad": "VALID"}, "c": "f32[4,1,1] const"},
    ],
    refuse=[
        {**PADDED, "c": "f32[4,1,1] const", "because": "pads its input"},
        {**CONV, "a": {"group": 2, "auto_pad": "SAME_UPPER"}, "c": "f32[4,1,1] const", "because": "depends"},
        {**CONV, "c": "f32[5] const", "because": "another axis"},
        {**CONV, "b": "f32[6]", "c": "f32[4,1,1] const", "pattern": 1, "because": "the bias is computed"},
        {**CONV, "x": "f32[2,1,5,5]", "c": "f32[4,1,1] const", "because": "larger"},
    ],
)
def shift_before_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x + c, w, b) = Conv(x, w, b + Σ w·c) for a number c per input channel, without padding."""
    response = _response(x, w, b, c, a)
    return op.Conv(x, w, response if b is None else op.Add(b, response), **a)


@rule(
    op.Conv(op.Sub(x, c), w, attributes=a),
    op.Conv(op.Sub(x, c), w, b, attributes=a),
    drift="rounding",
    example=[{**CONV, "c": "f32[4,1,1] const"}, {**CONV, "c": "f32[1] = 3"}],
    refuse={**PADDED, "c": "f32[4,1,1] const", "because": "pads its input"},
)
def difference_before_conv(x: Value, w: Value, b: Value | None, c: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x - c, w, b) = Conv(x, w, b - Σ w·c) for a number c per input channel, without padding."""
    response = _response(x, w, b, c, a)
    return op.Conv(x, w, op.Neg(response) if b is None else op.Sub(b, response), **a)
