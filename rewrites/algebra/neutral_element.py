"""Arithmetic and logic with a neutral element does nothing."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Term, Value, op, rule, var
from .broadcasting import keeps_shape, require_every

x, c = var("x c")


@rule(
    op.Mul(x, c),
    op.Div(x, c),
    op.Pow(x, c),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 NoopElimination, onnxslim, onnxoptimizer eliminate_nop_with_unit, onnxscript",
    example=[{"x": "f32[2,3]", "c": "f32[1] = 1"}, {"x": "i32[n,3]", "c": "i32[] = 1"}],
    refuse=[
        {"x": "f32[2,3]", "c": "f32[3] = 1 1 2", "because": "not one"},
        {"x": "f32[3]", "c": "f32[2,1] = 1 1", "because": "another shape"},
        {"x": "f32[3]", "c": "f32[3]", "because": "not a constant"},
    ],
)
def times_one(x: Value, c: Value) -> Term:
    """x·1 = x, x/1 = x, x¹ = x."""
    require_every(c, lambda array: bool((array == 1).all()), "the constant is not one")
    keeps_shape(x, c)
    return x


@rule(
    op.Add(x, c),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 NoopElimination, onnxslim, onnxoptimizer eliminate_nop_with_unit, onnxscript",
    example=[{"x": "i64[2,n]", "c": "i64[1] = 0"}, {"x": "f32[2,3]", "c": "f32[] = -0.0"}],
    refuse=[
        {"x": "f32[2,3]", "c": "f32[] = 0.0", "because": "turns -0"},
        {"x": "f32[3]", "c": "f32[2,1] = -0.0", "because": "another shape"},
    ],
)
def plus_zero(x: Value, c: Value) -> Term:
    """X + 0 = x for integers, x + (-0) = x."""
    require_every(c, lambda array: _is_zero(array, negative=True), "the constant is not zero, or turns -0 into 0")
    keeps_shape(x, c)
    return x


@rule(
    op.Sub(x, c),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 NoopElimination, onnxslim, onnxoptimizer eliminate_nop_with_unit, onnxscript",
    example=[{"x": "i64[2,n]", "c": "i64[1] = 0"}, {"x": "f32[2,3]", "c": "f32[] = 0.0"}],
    refuse={"x": "f32[2,3]", "c": "f32[] = -0.0", "because": "turns -0"},
)
def minus_zero(x: Value, c: Value) -> Term:
    """X - 0 = x."""
    require_every(c, lambda array: _is_zero(array, negative=False), "the constant is not zero, or turns -0 into 0")
    keeps_shape(x, c)
    return x


@rule(
    op.Add(x, c),
    op.Sub(x, c),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 NoopElimination, onnxslim, onnxoptimizer eliminate_nop_with_unit, onnxscript",
    example={"x": "f32[2,3]", "c": "f32[3] = 0.0"},
    refuse={"x": "f32[2,3]", "c": "f32[3] = 0.0 1.0 0.0", "because": "not zero"},
)
def plus_any_zero(x: Value, c: Value) -> Term:
    """X ± 0 = x, but that -0 + 0 is 0."""
    require_every(c, lambda array: bool((array == 0).all()), "the constant is not zero")
    keeps_shape(x, c)
    return x


def _is_zero(array: Array, *, negative: bool) -> bool:
    """All zeros, of the sign with which -0 stays -0; integers have one zero only."""
    if not bool((array == 0).all()):
        return False
    return array.dtype.kind in "iu" or bool((np.signbit(array.astype(np.float64)) == negative).all())


@rule(
    op.And(x, c),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer eliminate_nop_with_unit",
    example={"x": "b[2,n]", "c": "b[1] = 1"},
    refuse={"x": "b[2,3]", "c": "b[1] = 0", "because": "not true"},
)
def and_true(x: Value, c: Value) -> Term:
    """And(x, true) = x."""
    require_every(c, lambda array: bool(array.all()), "the constant is not true")
    keeps_shape(x, c)
    return x


@rule(
    op.Or(x, c),
    op.Xor(x, c),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer eliminate_nop_with_unit (Or)",
    example={"x": "b[2,n]", "c": "b[1] = 0"},
    refuse={"x": "b[2,3]", "c": "b[1] = 1", "because": "not false"},
)
def or_false(x: Value, c: Value) -> Term:
    """Or(x, false) = x, Xor(x, false) = x."""
    require_every(c, lambda array: not bool(array.any()), "the constant is not false")
    keeps_shape(x, c)
    return x


@rule(
    op.And(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "b[2,3]", "c": "b[1] = 0"},
    refuse=[
        {"x": "b[2,3]", "c": "b[1] = 1", "because": "not false"},
        {"x": "b[2,n]", "c": "b[1] = 0", "because": "dimension"},
    ],
)
def and_false(c: Value, root: Value) -> Array:
    """And(x, false) = false."""
    require_every(c, lambda array: not bool(array.any()), "the constant is not false")
    return np.zeros(root.static_shape, dtype=np.bool_)


@rule(
    op.Or(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "b[2,3]", "c": "b[1] = 1"},
    refuse={"x": "b[2,3]", "c": "b[1] = 0", "because": "not true"},
)
def or_true(c: Value, root: Value) -> Array:
    """Or(x, true) = true."""
    require_every(c, lambda array: bool(array.all()), "the constant is not true")
    return np.ones(root.static_shape, dtype=np.bool_)


@rule(
    op.Max(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "c": "f32[] = -inf"}, {"x": "i8[n]", "c": "i8[1] = -128"}],
    refuse={"x": "f32[2,3]", "c": "f32[] = -3e38", "because": "not the lowest"},
)
def max_of_lowest(x: Value, c: Value) -> Term:
    """Max(x, -∞) = x."""
    require_every(c, lambda array: bool((array == _limit(array, -1)).all()), "the constant is not the lowest number")
    keeps_shape(x, c)
    return x


@rule(
    op.Min(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "c": "f32[] = inf"}, {"x": "i64[n]", "c": "i64[1] = 9223372036854775807"}],
    refuse={"x": "f32[2,3]", "c": "f32[] = 3e38", "because": "not the highest"},
)
def min_of_highest(x: Value, c: Value) -> Term:
    """Min(x, ∞) = x."""
    require_every(c, lambda array: bool((array == _limit(array, 1)).all()), "the constant is not the highest number")
    keeps_shape(x, c)
    return x


def _limit(array: Array, sign: int) -> float | int:
    if array.dtype.kind in "iu":
        limits = ml_dtypes.iinfo(array.dtype)
        return int(limits.max if sign > 0 else limits.min)
    return sign * float("inf")
