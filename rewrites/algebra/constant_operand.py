"""Subtraction of and division by a constant, written as addition and multiplication: what chains are made of."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import require_every, require_float, require_moderate

x, c = var("x c")


@rule(
    op.Sub(x, c),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer adjust_add (opt-in)",
    example=[
        {"x": "f32[2,3]", "c": "f32[3] = 0.1 0 -inf"},
        {"x": "i64[2,n]", "c": "i64[] = 3"},
        {"x": "f16[2]", "c": "f16[1] = 0.1"},
    ],
    refuse=[
        {"x": "f32[2]", "c": "f32[2]", "because": "not a constant"},
        {"x": "u8[2]", "c": "u8[] = 1", "because": "sign"},
    ],
)
def minus_constant(x: Value, c: Value) -> Term:
    """X − c = x + (−c)."""
    if not c.is_const:
        raise Skip("an operand is not a constant")
    if c.dtype is None or not ir.DataType(c.dtype).is_signed():
        raise Skip("the type has no sign")
    return op.Add(x, op.Neg(c))


@rule(
    op.Div(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "c": "f32[] = 8"}, {"x": "f32[2,3]", "c": "f32[3] = 0.5 -4 1"}],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 3", "because": "power of two"},
        {"x": "f32[2]", "c": "f32[] = 0", "because": "power of two"},
        {"x": "i64[2]", "c": "i64[] = 2", "because": "floating"},
    ],
)
def divided_by_power_of_two(x: Value, c: Value) -> Term:
    """X / 2ⁿ = x·2⁻ⁿ."""
    require_float(x)
    require_every(c, _power_of_two, "the divisor is no power of two")
    require_moderate(c)
    return op.Mul(x, op.Reciprocal(c))


@rule(
    op.Div(x, c),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3]", "c": "f32[] = 1.4142135"},
        {"x": "f32[2,n]", "c": "f32[2,1] = 3 -0.7"},
        {"x": "f16[2,3]", "c": "f16[] = 3"},
    ],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 0", "because": "zero"},
        {"x": "f32[2]", "c": "f32[] = 1e-40", "because": "small"},
        {"x": "i64[2]", "c": "i64[] = 2", "because": "floating"},
    ],
)
def divided_by_constant(x: Value, c: Value) -> Term:
    """X / c = x·(1/c)."""
    require_float(x)
    require_moderate(c)
    return op.Mul(x, op.Reciprocal(c))


def _power_of_two(array: Array) -> bool:
    mantissa, _ = np.frexp(np.abs(array.astype(np.float64)))
    return bool((mantissa == 0.5).all())
