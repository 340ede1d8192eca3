"""Average pooling over the whole image is a reduction over its dimensions, and the other way round: prices decide.

Maximum pooling is not: ONNX Runtime's MaxPool passes over NaN, ReduceMax does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import constant_axes, ints

x, axes, a = var("x axes a")


@rule(
    op.GlobalAveragePool(x),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3,4,5]"}, {"x": "f32[2,3,n]"}],
)
def global_average_pool_as_mean(x: Value) -> Term:
    """GlobalAveragePool(x) = ReduceMean(x, all dimensions behind the channels)."""
    return op.ReduceMean(x, ints(*range(2, x.rank)), keepdims=1)


@rule(
    op.ReduceMean(x, axes, keepdims=1),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3,4,5]", "axes": "i64[2] = -1 2"}, {"x": "f32[2,3,4]", "axes": "i64[1] = 2"}],
    refuse=[
        {"x": "f32[2,3,4,5]", "axes": "i64[2] = 1 2", "because": "other dimensions"},
        {"x": "i32[2,3,4,5]", "axes": "i64[2] = 2 3", "because": "type"},
    ],
)
def mean_as_global_average_pool(x: Value, axes: Value) -> Term:
    """ReduceMean(x, all dimensions behind the channels) = GlobalAveragePool(x)."""
    if x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
        raise Skip("pooling is not defined for this type")
    if x.rank < 3 or constant_axes(axes, x.rank) != tuple(range(2, x.rank)):
        raise Skip("other dimensions than those of an image are reduced")
    return op.GlobalAveragePool(x)


@rule(
    op.AveragePool(x, attributes=a),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (3, 4)}},
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (3, 4), "strides": (3, 4), "pads": (0, 0, 0, 0)}},
    ],
    refuse=[
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (3, 2)}, "because": "smaller"},
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (3, 4), "pads": (1, 1, 1, 1)}, "because": "adds"},
    ],
)
def average_pool_as_global(x: Value, a: Mapping[str, Any]) -> Term:
    """AveragePool(x, a window of the image's size) = GlobalAveragePool(x)."""
    if a["kernel_shape"] != x.shape[2:]:
        raise Skip("the window is smaller than the image")
    if any(a.get("pads", ())) or any(d != 1 for d in a.get("dilations", ())) or "auto_pad" in a:
        raise Skip("the window leaves out elements or adds some")
    return op.GlobalAveragePool(x)
