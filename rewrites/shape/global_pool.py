"""Pooling over the whole image is a reduction over its dimensions, and the other way round: prices decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from ...compiler.rule import Drift, Rule, Skip, Term, Value, op, rule, var
from .axes import constant_axes, ints
from .elementwise import declare, snake

x, axes, a = var("x axes a")


def _reduction(pool: str, reduction: str, drift: Drift) -> Rule:
    def reduced(x: Value) -> Term:
        return op(reduction)(x, ints(*range(2, x.rank)), keepdims=1)

    return declare(
        reduced,
        f"{snake(pool)}_as_reduction",
        f"{pool}(x) = {reduction}(x, all dimensions behind the channels).",
        op(pool)(x),
        drift=drift,
        phase="canonicalise",
        peers="",
        example=[{"x": "f32[2,3,4,5]"}, {"x": "f32[2,3,n]"}],
    )


def _pool(pool: str, reduction: str, drift: Drift) -> Rule:
    def pooled(x: Value, axes: Value) -> Term:
        if x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
            raise Skip("pooling is not defined for this type")
        if x.rank < 3 or constant_axes(axes, x.rank) != tuple(range(2, x.rank)):
            raise Skip("other dimensions than those of an image are reduced")
        return op(pool)(x)

    return declare(
        pooled,
        f"{snake(reduction)}_as_pool",
        f"{reduction}(x, all dimensions behind the channels) = {pool}(x).",
        op(reduction)(x, axes, keepdims=1),
        drift=drift,
        phase="canonicalise",
        peers="",
        example=[{"x": "f32[2,3,4,5]", "axes": "i64[2] = -1 2"}, {"x": "f32[2,3,4]", "axes": "i64[1] = 2"}],
        refuse=[
            {"x": "f32[2,3,4,5]", "axes": "i64[2] = 1 2", "because": "other dimensions"},
            {"x": "i32[2,3,4,5]", "axes": "i64[2] = 2 3", "because": "type"},
        ],
    )


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


_PAIRS: tuple[tuple[str, str, Drift], ...] = (
    ("GlobalAveragePool", "ReduceMean", "rounding"),
    ("GlobalMaxPool", "ReduceMax", "none"),
)
RULES: tuple[Rule, ...] = (
    *(_reduction(*pair) for pair in _PAIRS),
    *(_pool(*pair) for pair in _PAIRS),
    average_pool_as_global,
)
