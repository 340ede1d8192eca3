"""Sums of squares and of magnitudes as the reductions that compute them in one pass."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float

x, axes, k, i, j, axis = var("x axes k i j axis")


@rule(
    op.ReduceSum(op.Mul(x, x), axes, keepdims=k),
    op.ReduceSum(op.Pow(x, 2.0), axes, keepdims=k),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1}, {"x": "f16[2,3,8]", "axes": "i64[2] = 1 2", "k": 0}],
    refuse={"x": "i64[2,8]", "axes": "i64[1] = 1", "k": 1, "because": "floating-point"},
)
def sum_of_squares(x: Value, axes: Value, k: int) -> Term:
    """Σx² = ReduceSumSquare(x)."""
    require_float(x)
    return op.ReduceSumSquare(x, axes, keepdims=k)


@rule(
    op.Sqrt(op.ReduceSumSquare(x, axes, keepdims=k)),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1}, {"x": "f16[2,3,8]", "axes": "i64[2] = 1 2", "k": 0}],
)
def length(x: Value, axes: Value, k: int) -> Term:
    """√Σx² = ReduceL2(x)."""
    return op.ReduceL2(x, axes, keepdims=k)


@rule(
    op.ReduceSum(op.Abs(x), axes, keepdims=k),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1}, {"x": "f16[2,3,8]", "axes": "i64[2] = 1 2", "k": 0}],
    refuse={"x": "i64[2,8]", "axes": "i64[1] = 1", "k": 1, "because": "floating-point"},
)
def sum_of_magnitudes(x: Value, axes: Value, k: int) -> Term:
    """Σ|x| = ReduceL1(x)."""
    require_float(x)
    return op.ReduceL1(x, axes, keepdims=k)


real, imaginary = op.Gather(x, i, axis=axis), op.Gather(x, j, axis=axis)


@rule(
    op.Add(op.Mul(real, real), op.Mul(imaginary, imaginary)),
    op.Add(op.Pow(real, 2.0), op.Pow(imaginary, 2.0)),
    drift="rounding",
    example=[
        {"x": "f32[3,8,2]", "i": "i64[] = 0", "j": "i64[] = 1", "axis": 2},
        {"x": "f32[3,2,8]", "i": "i64[] = 1", "j": "i64[] = 0", "axis": -2},
    ],
    refuse=[
        {"x": "f32[8,3]", "i": "i64[] = 0", "j": "i64[] = 1", "axis": 1, "because": "not of two"},
        {"x": "f32[8,2]", "i": "i64[] = 0", "j": "i64[] = -2", "axis": 1, "because": "not both"},
        {"x": "f32[8,2]", "i": "i64[1] = 0", "j": "i64[1] = 1", "axis": 1, "because": "keep the axis"},
    ],
)
def squared_magnitude(x: Value, i: Value, j: Value, axis: int) -> Term:
    """re² + im² = ReduceSumSquare over the axis of two that holds the parts of complex numbers."""
    require_float(x)
    if i.rank or j.rank:
        raise Skip("the indices keep the axis")
    if x.shape[axis] != 2:
        raise Skip("the axis is not of two elements")
    if {int(i.array) % 2, int(j.array) % 2} != {0, 1}:
        raise Skip("not both elements are read")
    return op.ReduceSumSquare(x, np.asarray([axis % x.rank], dtype=np.int64), keepdims=0)
