"""Softmax, LogSoftmax and ReduceLogSumExp from their parts.

The maximum that keeps exp from overflowing is taken off first in most models and by the operators themselves always;
where a model does without, the operators give the number that the model would give if its floats were wide enough.
"""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float
from .normalisation import reduced_axes

x, axes, k, axis = var("x axes k axis")
grown = op.Exp(x)
total = op.ReduceSum(grown, axes, keepdims=1)


@rule(
    op.Div(grown, total),
    op.Mul(grown, op.Reciprocal(total)),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1"},
        {"x": "f32[2,3,8]", "axes": "i64[1] = 1"},
        {"x": "f16[2,8]", "axes": "i64[1] = 1"},
    ],
    refuse={"x": "f32[2,3,8]", "axes": "i64[2] = 1 2", "because": "several axes"},
)
def softmax(x: Value, axes: Value) -> Term:
    """exp(x) / Σexp(x) = Softmax(x)."""
    return op.Softmax(x, axis=_axis(x, axes))


largest = op.ReduceMax(x, axes, keepdims=1)


@rule(
    op.Softmax(op.Sub(x, largest), axis=axis),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = 2", "axis": -1},
        {"x": "f16[2,3,8]", "axes": "i64[1] = 1", "axis": 1},
    ],
    refuse={"x": "f32[2,3,8]", "axes": "i64[1] = 1", "axis": -1, "because": "another axis"},
)
def softmax_shift(x: Value, axes: Value, axis: int) -> Term:
    """Softmax(x - max(x)) = Softmax(x), both along one axis."""
    _require_axis(x, axes, axis)
    return op.Softmax(x, axis=axis)


@rule(
    op.LogSoftmax(op.Sub(x, largest), axis=axis),
    drift="rounding",
    example={"x": "f32[2,3,8]", "axes": "i64[1] = 2", "axis": -1},
    refuse={"x": "f32[2,3,8]", "axes": "i64[1] = 1", "axis": -1, "because": "another axis"},
)
def log_softmax_shift(x: Value, axes: Value, axis: int) -> Term:
    """LogSoftmax(x - max(x)) = LogSoftmax(x), both along one axis."""
    _require_axis(x, axes, axis)
    return op.LogSoftmax(x, axis=axis)


@rule(
    op.Log(op.Softmax(x, axis=axis)),
    drift="rounding",
    peers="onnxoptimizer fuse_consecutive_log_softmax",
    example=[{"x": "f32[2,3,8]", "axis": -1}, {"x": "f16[2,8]", "axis": 0}],
)
def log_softmax(x: Value, axis: int) -> Term:
    """log(Softmax(x)) = LogSoftmax(x), which does not lose what Softmax rounds to zero."""
    return op.LogSoftmax(x, axis=axis)


@rule(
    op.Sub(x, op.ReduceLogSumExp(x, axes, keepdims=1)),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1"}, {"x": "f32[2,3,8]", "axes": "i64[1] = 1"}],
    refuse={"x": "f32[2,3,8]", "axes": "i64[2] = 1 2", "because": "several axes"},
)
def log_softmax_of_difference(x: Value, axes: Value) -> Term:
    """x-log(Σexp(x)) = LogSoftmax(x)."""
    return op.LogSoftmax(x, axis=_axis(x, axes))


@rule(
    op.Log(op.ReduceSum(op.Exp(x), axes, keepdims=k)),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1", "k": 1}, {"x": "f32[2,3,8]", "axes": "i64[2] = 1 2", "k": 0}],
    refuse={"x": "f32[2,3,8]", "axes": "i64[0] = 0", "k": 1, "because": "no axes"},
)
def log_sum_exp(x: Value, axes: Value, k: int) -> Term:
    """log(Σexp(x)) = ReduceLogSumExp(x), which does not overflow."""
    require_float(x)
    return op.ReduceLogSumExp(x, np.asarray(reduced_axes(x, axes), dtype=np.int64), keepdims=k)


@rule(
    op.Add(op.ReduceLogSumExp(op.Sub(x, largest), axes, keepdims=1), largest),
    drift="rounding",
    example=[{"x": "f32[2,3,8]", "axes": "i64[1] = -1"}, {"x": "f16[2,8]", "axes": "i64[1] = 1"}],
)
def log_sum_exp_shift(x: Value, axes: Value) -> Term:
    """max(x) + log Σexp(x - max(x)) = ReduceLogSumExp(x)."""
    return op.ReduceLogSumExp(x, axes, keepdims=1)


def _axis(x: Value, axes: Value) -> int:
    require_float(x)
    found = reduced_axes(x, axes)
    if len(found) != 1:
        raise Skip("it is normalised over several axes at once")
    return found[0] - x.rank


def _require_axis(x: Value, axes: Value, axis: int) -> None:
    if _axis(x, axes) % x.rank != axis % x.rank:
        raise Skip("the maximum is taken along another axis")
