"""Sums of multiples: a common factor is multiplied once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import require_every, require_float, require_moderate, require_no_growth

x, y, a, b = var("x y a b")


@rule(
    op.Add(op.Mul(x, a), op.Mul(y, a)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3]", "y": "f32[3]", "a": "f32[] = 0.3"},
        {"x": "f32[2,3]", "y": "f32[2,3]", "a": "f32[3] const"},
    ],
    refuse={"x": "f32[2,3]", "y": "f32[2,3]", "a": "f32[3]", "because": "not a constant"},
)
def sum_of_multiples(x: Value, y: Value, a: Value) -> Term:
    """x·a + y·a = (x + y)·a."""
    require_moderate(a)
    return op.Mul(op.Add(x, y), a)


@rule(
    op.Sub(op.Mul(x, a), op.Mul(y, a)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "y": "f32[3]", "a": "f32[] = 0.3"},
    refuse={"x": "f32[2,3]", "y": "f32[2,3]", "a": "f32[] = 0", "because": "zero"},
)
def difference_of_multiples(x: Value, y: Value, a: Value) -> Term:
    """x·a − y·a = (x − y)·a."""
    require_moderate(a)
    return op.Mul(op.Sub(x, y), a)


@rule(
    op.Add(op.Mul(x, a), op.Mul(x, b)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[] = 0.3", "b": "f32[3] = 1 2 0.5"},
    refuse=[
        {"x": "f32[2,3]", "a": "f32[] = 0.3", "b": "f32[] = -0.3", "because": "infinity"},
        {"x": "f32[2,3]", "a": "f32[] = 0.3", "b": "f32[]", "because": "not a constant"},
    ],
)
def multiples_of_same(x: Value, a: Value, b: Value) -> Term:
    """x·a + x·b = x·(a + b) for constants of one sign."""
    _positive(a, b)
    require_no_growth(a, b)
    return op.Mul(x, op.Add(a, b))


@rule(
    op.Add(op.Mul(x, a), x),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "a": "f32[] = 0.3"}, {"x": "f16[2,n]", "a": "f16[2,1] = 2 0.25"}],
    refuse={"x": "f32[2,3]", "a": "f32[] = -1", "because": "infinity"},
)
def multiple_plus_same(x: Value, a: Value) -> Term:
    """x·a + x = x·(a + 1) for a positive constant."""
    require_float(x)
    _positive(a)
    return op.Mul(x, op.Add(a, _one(a)))


def _positive(*constants: Value) -> None:
    """With factors of both signs an infinite x would give NaN on one side only."""
    require_moderate(*constants)
    for c in constants:
        require_every(
            c,
            lambda array: not bool(np.signbit(array.astype(np.float64)).any()),
            "with factors of both signs infinity becomes NaN",
        )


def _one(a: Value) -> Array:
    if a.dtype is None:
        raise Skip("the type is not known")
    return np.ones([], dtype=ir.DataType(a.dtype).numpy())
