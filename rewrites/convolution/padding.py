"""Padding as its own operator goes into the convolution or pooling after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import given
from .geometry import Geometry, geometry, of_convolution

x, w, b, p, v, axes, a, mode = var("x w b p v axes a mode")

PADS = {"p": "i64[8] = 0 0 1 2 0 0 1 0", "v": "f32[] = 0", "axes": "i64[4] = 0 1 2 3", "mode": None}
CONV = {"x": "f32[2,3,5,6]", "w": "f32[4,3,3,3] const", "b": "f32[4] const", "a": {"pads": (1, 0, 1, 0)}, **PADS}
POOL = {"x": "f32[2,3,5,6]", **PADS, "a": {"kernel_shape": (3, 3), "strides": (2, 2)}}
LOWEST = {**POOL, "v": "f32[] = -inf"}


def _pads(name: str, *weights: Any, source: Any = x) -> list[Any]:
    padded = (op.Pad(source, p, mode=mode), op.Pad(source, p, v, mode=mode), op.Pad(source, p, v, axes, mode=mode))
    return [op(name)(pad, *weights, attributes=a) for pad in padded]


def spatial_pads(x: Value, p: Value, axes: Value | None, mode: str | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How much a constant Pad adds before and after each spatial axis.

    Raises:
        Skip: it does not pad with a constant, crops, or pads batch or channels.
    """
    if mode not in (None, "constant"):
        raise Skip(f"the padding is of mode {mode}")
    numbers = [int(n) for n in p.array.reshape(-1)]
    half, rank = len(numbers) // 2, x.rank
    over = range(rank) if axes is None else [int(i) % rank for i in axes.array.reshape(-1)]
    begin, end = [0] * rank, [0] * rank
    for axis, first, last in zip(over, numbers[:half], numbers[half:], strict=True):
        begin[axis], end[axis] = first, last
    if any(begin[:2]) or any(end[:2]):
        raise Skip("batch or channels are padded")
    if min(*begin, *end) < 0:
        raise Skip("the padding crops")
    return tuple(begin[2:]), tuple(end[2:])


def fill(v: Value | None) -> float:
    """The number that Pad writes."""
    constant = given(v)
    return 0.0 if constant is None else constant.scalar


def widened(shape: Geometry, x: Value, p: Value, axes: Value | None, mode: str | None) -> Geometry:
    """The window with the Pad's padding added to its own."""
    begin, end = spatial_pads(x, p, given(axes), mode)
    if len(begin) != len(shape.kernel):
        raise Skip("the padding is of another rank")
    return shape.with_pads(
        tuple(i + j for i, j in zip(shape.begin, begin, strict=True)),
        tuple(i + j for i, j in zip(shape.end, end, strict=True)),
    )


def _stated(a: Mapping[str, Any], wide: Geometry) -> dict[str, Any]:
    return {**{k: n for k, n in a.items() if k != "auto_pad"}, "pads": (*wide.begin, *wide.end)}


@rule(
    *_pads("Conv", w),
    *_pads("Conv", w, b),
    drift="rounding",
    peers="ORT L1 Pad_Fusion, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        CONV,
        {**CONV, "x": "f16[2,3,5,6]", "w": "f16[4,3,3,3] const", "b": "f16[4]", "v": None, "pattern": 4},
        {**CONV, "a": {"auto_pad": "VALID", "strides": (2, 2), "dilations": (1, 2)}},
        {**CONV, "p": "i64[4] = 1 2 0 0", "axes": "i64[2] = -1 2", "pattern": 2},
    ],
    refuse=[
        {**CONV, "mode": "reflect", "because": "mode reflect"},
        {**CONV, "p": "i64[8] = 0 1 0 0 0 0 0 0", "w": "f32[4,4,3,3] const", "because": "channels"},
        {**CONV, "p": "i64[8] = 0 0 0 -1 0 0 0 0", "because": "crops"},
        {**CONV, "v": "f32[] = 1", "pattern": 1, "because": "zero"},
        {**CONV, "a": {"auto_pad": "SAME_LOWER"}, "because": "depends"},
    ],
)
def padding_before_conv(
    x: Value,
    w: Value,
    b: Value | None,
    p: Value,
    v: Value | None,
    axes: Value | None,
    mode: str | None,
    a: Mapping[str, Any],
) -> Term:
    """Conv(Pad(x, 0), w, b) = Conv(x, w, b) with the padding among its own."""
    if fill(v) != 0:
        raise Skip("the padding is not zero")
    wide = widened(of_convolution(w, a), x, p, axes, mode)
    return op.Conv(x, w, b, **_stated(a, wide))


def _pool(a: Mapping[str, Any]) -> Geometry:
    if a.get("ceil_mode", 0):
        raise Skip("the result's size is rounded up")
    return geometry(a)


def _require_overlap(wide: Geometry) -> None:
    """Every window must hold a number of the input."""
    reach = [(k - 1) * d + 1 for k, d in zip(wide.kernel, wide.dilations, strict=True)]
    if any(max(i, j) >= k for i, j, k in zip(wide.begin, wide.end, reach, strict=True)) or any(
        max(i, j) >= k for i, j, k in zip(wide.begin, wide.end, wide.kernel, strict=True)
    ):
        raise Skip("a window would lie in the padding")


@rule(
    *_pads("MaxPool")[1:],
    drift="rounding",  # which of NaN and a number is the larger depends on their order in the window
    peers="onnxoptimizer",
    example=[
        LOWEST,
        {**LOWEST, "p": "i64[4] = 1 2 0 0", "axes": "i64[2] = -1 2", "pattern": 1},
        {**LOWEST, "a": {"kernel_shape": (3, 3), "pads": (1, 0, 1, 0)}},
    ],
    refuse=[
        {**POOL, "because": "lowest"},
        {**LOWEST, "a": {"kernel_shape": (3, 3), "ceil_mode": 1}, "because": "rounded up"},
        {**LOWEST, "a": {"kernel_shape": (2, 2)}, "because": "lie in the padding"},
    ],
)
def padding_before_max_pool(
    x: Value, p: Value, v: Value, axes: Value | None, mode: str | None, a: Mapping[str, Any]
) -> Term:
    """MaxPool(Pad(x, -∞)) = MaxPool(x) with the padding among its own."""
    if fill(v) != -np.inf:
        raise Skip("the padding is not the lowest number")
    wide = widened(_pool(a), x, p, axes, mode)
    _require_overlap(wide)
    return op.MaxPool(x, **_stated(a, wide))


@rule(
    *_pads("MaxPool", source=op.Relu(x)),
    drift="rounding",
    example=[POOL, {**POOL, "x": "f16[2,3,5,6]", "v": None, "pattern": 1}],
    refuse=[
        {**POOL, "v": "f32[] = 1", "pattern": 1, "because": "not zero"},
        {**POOL, "a": {"kernel_shape": (3, 3), "ceil_mode": 1}, "because": "rounded up"},
    ],
)
def zeros_before_max_pool(
    x: Value, p: Value, v: Value | None, axes: Value | None, mode: str | None, a: Mapping[str, Any]
) -> Term:
    """MaxPool(Pad(Relu(x), 0)) = MaxPool(Relu(x)) with the padding among its own: no maximum is below zero."""
    if fill(v) != 0:
        raise Skip("the padding is not zero")
    wide = widened(_pool(a), x, p, axes, mode)
    _require_overlap(wide)
    return op.MaxPool(op.Relu(x), **_stated(a, wide))


@rule(
    *_pads("AveragePool"),
    drift="rounding",
    peers="onnxoptimizer, onnxsim",
    example=[
        POOL,
        {**POOL, "v": None, "pattern": 1},
        {**POOL, "a": {"kernel_shape": (3, 3), "pads": (1, 0, 1, 0), "count_include_pad": 1}},
    ],
    refuse=[
        {**POOL, "v": "f32[] = 1", "pattern": 1, "because": "zero"},
        {**POOL, "a": {"kernel_shape": (3, 3), "pads": (1, 0, 1, 0)}, "because": "count"},
        {**POOL, "a": {"kernel_shape": (3, 3), "ceil_mode": 1}, "because": "rounded up"},
        {**POOL, "a": {"kernel_shape": (2, 2)}, "because": "lie in the padding"},
    ],
)
def padding_before_average_pool(
    x: Value, p: Value, v: Value | None, axes: Value | None, mode: str | None, a: Mapping[str, Any]
) -> Term:
    """AveragePool(Pad(x, 0)) = AveragePool(x), the padding among its own and counted."""
    if fill(v) != 0:
        raise Skip("the padding is not zero")
    shape = _pool(a)
    if shape.padded and not a.get("count_include_pad", 0):
        raise Skip("the pool does not count its own padding")
    wide = widened(shape, x, p, axes, mode)
    _require_overlap(wide)
    return op.AveragePool(x, **{**_stated(a, wide), "count_include_pad": 1})
