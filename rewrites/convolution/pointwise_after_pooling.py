"""A pointwise convolution before an average runs on fewer positions after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import require_float
from .geometry import geometry, of_convolution

x, w, b, a, e, axes, keepdims = var("x w b a e axes keepdims")

POINTWISE = {"x": "f32[2,4,6,6]", "w": "f32[6,2,1,1] const", "b": "f32[6] const", "a": {"group": 2}}
conv = op.Conv(x, w, attributes=a)
conv_bias = op.Conv(x, w, b, attributes=a)


def _require_pointwise(x: Value, w: Value, a: Mapping[str, Any]) -> None:
    require_float(x)
    shape = of_convolution(w, a)
    if not shape.pointwise or not shape.dense:
        raise Skip("the convolution is not pointwise on every position")


@rule(
    op.GlobalAveragePool(conv),
    op.GlobalAveragePool(conv_bias),
    drift="rounding",
    example=[POINTWISE, {"x": "f32[N,4,6]", "w": "f32[3,4,1] const", "b": "f32[3]", "a": {}}],
    refuse=[
        {**POINTWISE, "w": "f32[6,2,3,3] const", "because": "pointwise"},
        {**POINTWISE, "a": {"group": 2, "strides": (2, 2)}, "because": "every position"},
    ],
)
def pointwise_after_global_average(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """GlobalAveragePool(Conv(x, w, b)) = Conv(GlobalAveragePool(x), w, b) with a 1x1 kernel."""
    _require_pointwise(x, w, a)
    return op.Conv(op.GlobalAveragePool(x), w, b, **a)


@rule(
    op.ReduceMean(conv, axes, keepdims=1),
    op.ReduceMean(conv_bias, axes, keepdims=1),
    drift="rounding",
    example=[{**POINTWISE, "axes": "i64[2] = 2 3"}, {**POINTWISE, "axes": "i64[1] = -1"}],
    refuse=[
        {**POINTWISE, "axes": "i64[2] = 1 2", "because": "spatial"},
        {**POINTWISE, "w": "f32[6,2,3,3] const", "axes": "i64[1] = 2", "because": "pointwise"},
    ],
)
def pointwise_after_mean(x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    """ReduceMean(Conv(x, w, b)) = Conv(ReduceMean(x), w, b) with a 1x1 kernel and a mean over spatial axes."""
    _require_pointwise(x, w, a)
    over = [int(i) % x.rank for i in axes.array.reshape(-1)]
    if not over or min(over) < 2:
        raise Skip("the mean is not over spatial axes alone")
    return op.Conv(op.ReduceMean(x, axes, keepdims=1), w, b, **a)


@rule(
    op.AveragePool(conv, attributes=e),
    op.AveragePool(conv_bias, attributes=e),
    drift="rounding",
    example=[
        {**POINTWISE, "e": {"kernel_shape": (2, 2), "strides": (2, 2)}},
        {**POINTWISE, "e": {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}},
        {**POINTWISE, "e": {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1}, "pattern": 0},
    ],
    refuse=[
        {
            **POINTWISE,
            "e": {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1},
            "pattern": 1,
            "because": "counts its padding",
        },
        {**POINTWISE, "w": "f32[6,2,3,3] const", "e": {"kernel_shape": (2, 2)}, "because": "pointwise"},
    ],
)
def pointwise_after_average_pool(
    x: Value, w: Value, b: Value | None, a: Mapping[str, Any], e: Mapping[str, Any]
) -> Term:
    """AveragePool(Conv(x, w, b)) = Conv(AveragePool(x), w, b) with a 1x1 kernel."""
    _require_pointwise(x, w, a)
    if b is not None and e.get("count_include_pad", 0) and (e.get("ceil_mode", 0) or geometry(e).padded):
        raise Skip("the average counts its padding, where there is no bias")
    return op.Conv(op.AveragePool(x, **e), w, b, **a)
