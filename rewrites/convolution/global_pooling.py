"""Reductions over all spatial axes are global pooling, which stays in the runtime's blocked layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_convolved
from .geometry import geometry

x, axes, keepdims, a = var("x axes keepdims a")

SPATIAL = {"x": "f32[2,3,4,5]", "axes": "i64[2] = -1 -2", "keepdims": 1}


def _require_spatial(x: Value, axes: Value) -> None:
    require_convolved(x)
    over = sorted(int(i) % x.rank for i in axes.array.reshape(-1))
    if x.rank < 4 or over != list(range(2, x.rank)):
        raise Skip("the axes are not all spatial ones")


def _shaped(pooled: Term, x: Value, keepdims: int) -> Term:
    return pooled if keepdims else op.Squeeze(pooled, ints(*range(2, x.rank)))


@rule(
    op.ReduceMean(x, axes, keepdims=keepdims),
    drift="rounding",
    example=[SPATIAL, {**SPATIAL, "keepdims": 0}, {**SPATIAL, "x": "f32[N,3,H,W]"}],
    refuse=[
        {**SPATIAL, "axes": "i64[2] = 1 2", "because": "spatial"},
        {**SPATIAL, "x": "f32[2,3,4]", "axes": "i64[1] = 2", "because": "spatial"},
        {**SPATIAL, "x": "i32[2,3,4,5]", "because": "precision"},
        {**SPATIAL, "x": "f64[2,3,4,5]", "because": "precision"},
    ],
)
def mean_as_global_average(x: Value, axes: Value, keepdims: int) -> Term:
    """ReduceMean(x, all spatial axes) = GlobalAveragePool(x)."""
    _require_spatial(x, axes)
    return _shaped(op.GlobalAveragePool(x), x, keepdims)


@rule(
    op.ReduceMax(x, axes, keepdims=keepdims),
    drift="rounding",  # which of NaN and a number is the larger depends on their order
    example=[SPATIAL, {**SPATIAL, "keepdims": 0}],
    refuse={**SPATIAL, "axes": "i64[1] = 2", "because": "spatial"},
)
def max_as_global_max(x: Value, axes: Value, keepdims: int) -> Term:
    """ReduceMax(x, all spatial axes) = GlobalMaxPool(x)."""
    _require_spatial(x, axes)
    return _shaped(op.GlobalMaxPool(x), x, keepdims)


def _require_whole(x: Value, a: Mapping[str, Any]) -> None:
    shape = geometry(a)
    if x.shape[2:] != shape.kernel or shape.padded or any(d != 1 for d in shape.dilations):
        raise Skip("the window is not the whole input")


@rule(
    op.AveragePool(x, attributes=a),
    drift="rounding",
    example=[
        {"x": "f32[2,3,4,5]", "a": {"kernel_shape": (4, 5), "strides": (4, 5)}},
        {"x": "f32[N,3,7]", "a": {"kernel_shape": (7,)}},
    ],
    refuse=[
        {"x": "f32[2,3,4,5]", "a": {"kernel_shape": (4, 4)}, "because": "whole"},
        {"x": "f32[2,3,2,2]", "a": {"kernel_shape": (2, 2), "pads": (1, 1, 1, 1)}, "because": "whole"},
    ],
)
def average_of_whole_input(x: Value, a: Mapping[str, Any]) -> Term:
    """AveragePool(x) = GlobalAveragePool(x) when one window covers the input."""
    _require_whole(x, a)
    return op.GlobalAveragePool(x)


@rule(
    op.MaxPool(x, attributes=a),
    drift="rounding",
    example={"x": "f32[2,3,4,5]", "a": {"kernel_shape": (4, 5)}},
    refuse={"x": "f32[2,3,4,5]", "a": {"kernel_shape": (4, 4)}, "because": "whole"},
)
def max_of_whole_input(x: Value, a: Mapping[str, Any]) -> Term:
    """MaxPool(x) = GlobalMaxPool(x) when one window covers the input."""
    _require_whole(x, a)
    return op.GlobalMaxPool(x)
