"""Reductions of multiples: the factor is multiplied once, afterwards."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import is_float, require_every

x, a, c, k = var("x a c k")


@rule(
    op.ReduceMean(op.Mul(x, c), a, keepdims=k),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,8]", "a": "i64[1] = 1", "k": 1, "c": "f32[] = 0.3"},
    refuse=[
        {"x": "f32[2,8]", "a": "i64[1] = 1", "k": 1, "c": "f32[8] const", "because": "one number"},
        {"x": "f32[8]", "a": "i64[1] = 1", "k": 0, "c": "f32[1,1] = 2", "because": "dimensions"},
    ],
)
def mean_of_multiple(x: Value, c: Value, a: Value, k: int) -> Term:
    """ReduceMean(x·c) = ReduceMean(x)·c for one constant c."""
    _one_number(x, c)
    return op.Mul(op.ReduceMean(x, a, keepdims=k), c)


@rule(
    op.ReduceSum(op.Mul(x, c), a, keepdims=k),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,8]", "a": "i64[1] = 1", "k": 1, "c": "f32[] = 0.3"},
    refuse={"x": "f32[2,8]", "a": "i64[1] = 1", "k": 1, "c": "f32[8] const", "because": "one number"},
)
def sum_of_multiple(x: Value, c: Value, a: Value, k: int) -> Term:
    """ReduceSum(x·c) = ReduceSum(x)·c for one constant c."""
    _one_number(x, c)
    return op.Mul(op.ReduceSum(x, a, keepdims=k), c)


def _one_number(x: Value, c: Value) -> None:
    if c.size != 1 or not c.is_const:
        raise Skip("the factor is not one number")
    if c.rank:
        raise Skip("the factor may add dimensions")
    if is_float(x):
        require_every(c, lambda array: bool(np.isfinite(array.astype(np.float64)).all()), "the factor is not finite")
