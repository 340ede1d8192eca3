"""Means, and means of squares, however they are written, become ReduceMean and ReduceMean(x·x)."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import is_close, require_float
from .normalisation import elements, reduced_axes

x, y, axes, k, n, f, noop = var("x y axes k n f noop")
total = op.ReduceSum(x, axes, keepdims=k, noop_with_empty_axes=noop)


@rule(
    op.Div(total, n),
    op.Mul(total, f),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1, "noop": None, "n": "f32[] = 8", "pattern": 0},
        {"x": "f32[2,4,4]", "axes": "i64[2] = 1 2", "k": 0, "noop": 1, "f": "f32[] = 0.0625", "pattern": 1},
        {"x": "f16[2,4]", "axes": "i64[1] = 1", "k": 1, "noop": None, "f": "f16[1] = 0.25", "pattern": 1},
    ],
    refuse=[
        {"x": "f32[2,8]", "axes": "i64[1] = 1", "k": 1, "noop": None, "n": "f32[] = 7", "pattern": 0, "because": "not"},
        {"x": "f32[2,8]", "axes": "i64[1] = 1", "k": 1, "noop": None, "f": "f32[] = 8", "pattern": 1, "because": "not"},
        {
            "x": "f32[2,A]",
            "axes": "i64[1] = 1",
            "k": 1,
            "noop": None,
            "n": "f32[] = 8",
            "pattern": 0,
            "because": "size",
        },
        {"x": "i64[2,8]", "axes": "i64[1] = 1", "k": 1, "noop": 0, "n": "i64[] = 8", "pattern": 0, "because": "float"},
    ],
)
def mean_of_sum(x: Value, axes: Value, k: int, n: Value | None, f: Value | None, root: Value) -> Term:
    """Σx / n = ReduceMean(x), where n is how many numbers are summed."""
    require_float(x)
    over = reduced_axes(x, axes)
    count = elements(x, over)
    divisor = n.scalar if n is not None else 1 / f.scalar if f is not None and f.scalar else 0.0
    if not is_close(divisor, count, x):
        raise Skip("the divisor is not the number of summands")
    kept = len(over) if k == 0 else 0
    if root.rank != x.rank - kept:
        raise Skip("the divisor broadcasts the sum to another shape")
    return op.ReduceMean(x, np.asarray(over, dtype=np.int64), keepdims=k)


@rule(
    op.Div(op.ReduceSumSquare(x, axes, keepdims=k, noop_with_empty_axes=noop), n),
    drift="rounding",
    example={"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1, "noop": None, "n": "f32[] = 8"},
    refuse={"x": "f32[2,8]", "axes": "i64[1] = 1", "k": 1, "noop": None, "n": "f32[] = 7", "because": "not the number"},
)
def mean_of_squares(x: Value, axes: Value, k: int, n: Value, root: Value) -> Term:
    """Σx² / n = ReduceMean(x·x), where n is how many numbers are summed."""
    over = reduced_axes(x, axes)
    if not is_close(n.scalar, elements(x, over), x):
        raise Skip("the divisor is not the number of summands")
    if root.rank != x.rank - (len(over) if k == 0 else 0):
        raise Skip("the divisor broadcasts the sum to another shape")
    return op.ReduceMean(op.Mul(x, x), np.asarray(over, dtype=np.int64), keepdims=k)


@rule(
    op.ReduceMean(op.Pow(x, 2.0), axes, keepdims=k),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1},
        {"x": "f16[2,3,8]", "axes": "i64[2] = 1 2", "k": 0},
    ],
    refuse={"x": "i64[2,8]", "axes": "i64[1] = 1", "k": 1, "because": "floating-point"},
)
def mean_of_power(x: Value, axes: Value, k: int) -> Term:
    """ReduceMean(x²) = ReduceMean(x·x)."""
    require_float(x)
    return op.ReduceMean(op.Mul(x, x), axes, keepdims=k)


mean = op.ReduceMean(x, axes, keepdims=k)


@rule(
    op.Sub(op.ReduceMean(op.Mul(x, x), axes, keepdims=k), op.Mul(mean, mean)),
    op.Sub(op.ReduceMean(op.Mul(x, x), axes, keepdims=k), op.Pow(mean, 2.0)),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1},
        {"x": "f32[2,3,8]", "axes": "i64[1] = 1", "k": 0},
    ],
    refuse={"x": "i32[2,8]", "axes": "i64[1] = 1", "k": 1, "because": "floating-point"},
)
def variance_of_moments(x: Value, axes: Value, k: int) -> Term:
    """E[x²] - E[x]² = E[(x - E[x])²]: the second form never cancels."""
    require_float(x)
    centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
    return op.ReduceMean(op.Mul(centred, centred), axes, keepdims=k)


@rule(
    op.Max(op.ReduceMean(op.Mul(x, x), axes, keepdims=k), 0.0),
    op.Relu(op.ReduceMean(op.Mul(x, x), axes, keepdims=k)),
    drift="none",
    phase="canonicalise",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1}, {"x": "f64[2,8]", "axes": "i64[1] = 1", "k": 0}],
)
def mean_square_is_positive(x: Value, axes: Value, k: int, root: Value) -> Term:
    """Max(0, mean(x·x)) = mean(x·x)."""
    require_float(x)
    result = op.ReduceMean(op.Mul(x, x), axes, keepdims=k)
    if root.rank != x.rank - (0 if k else len(reduced_axes(x, axes))):
        raise Skip("zero broadcasts the mean to another shape")
    return result
