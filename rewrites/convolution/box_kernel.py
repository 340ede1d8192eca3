"""A window that copies or averages, next to a convolution, is one convolution with fewer products.

Along one axis, a kernel of k numbers with a box of f ones gives one of k + f - 1; f·k products become k + f - 1. A 3x3
convolution after a nearest upsampling by two needs 16 products an input position instead of 36, and measures 1.2 to 1.6
times faster in ONNX Runtime on the CPU (up to 8 with few output channels).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import full, given, ints, require_constant, require_float
from .geometry import Geometry, geometry, of_convolution

x, w, b, r, s, z, a, e = var("x w b r s z a e")

FLOOR = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
CONV = {"x": "f32[2,4,3,4]", "w": "f32[6,2,3,3] const", "b": "f32[6] const", "a": {"group": 2, "pads": (1, 1, 1, 1)}}
SCALED = {**CONV, "e": FLOOR, "r": None, "s": "f32[4] = 1 1 2 2", "z": None}
POOLED = {**CONV, "x": "f32[2,4,6,7]", "e": {"kernel_shape": (2, 2), "strides": (2, 2)}}


def _with_box(w: Value, box: tuple[int, ...], number: float) -> Term:
    """Every kernel of a weight [O, I, k…] with a box of equal numbers: [O, I, k + f - 1…]."""
    outputs, inputs, *kernel = w.static_shape
    border = tuple(f - 1 for f in box)
    planes = op.Reshape(w, ints(outputs * inputs, 1, *kernel))
    wide = op.Conv(planes, full(number, (1, 1, *box), w), pads=(*border, *border))
    return op.Reshape(wide, ints(outputs, inputs, *(k + f for k, f in zip(kernel, border, strict=True))))


def _transposed(weight: Term, w: Value, group: int, kernel: tuple[int, ...]) -> Term:
    """Conv's weight [O, I/g, k…] as ConvTranspose's [I, O/g, k…], the kernel turned round."""
    outputs, inputs = w.static_shape[:2]
    rest = len(kernel)
    grouped = op.Reshape(weight, ints(group, outputs // group, inputs, *kernel))
    swapped = op.Transpose(grouped, perm=(0, 2, 1, *range(3, 3 + rest)))
    flat = op.Reshape(swapped, ints(group * inputs, outputs // group, *kernel))
    ends, axes = ints(*(-(k + 1) for k in kernel)), ints(*range(2, 2 + rest))
    return op.Slice(flat, ints(*(-1,) * rest), ends, axes, ints(*(-1,) * rest))


def _copies(x: Value, s: Value, z: Value | None, e: Mapping[str, Any]) -> tuple[int, ...]:
    """How often a nearest resize repeats each position along each spatial axis.

    Raises:
        Skip: it is not nearest, not by whole numbers, or does not repeat every position equally often.
    """
    if e.get("mode", "nearest") != "nearest":
        raise Skip("the resize interpolates")
    if e.get("axes") is not None or e.get("keep_aspect_ratio_policy") is not None:
        raise Skip("the resize names axes, or a policy")
    place, nearest = e.get("coordinate_transformation_mode", "half_pixel"), e.get("nearest_mode", "round_prefer_floor")
    # (i + ½)/f - ½ lies within ½ of floor(i/f) for every whole f; i/f needs rounding down.
    if (place, nearest) != ("asymmetric", "floor") and (place != "half_pixel" or not nearest.startswith("round")):
        raise Skip("the resize takes its neighbour in another way")
    scales = given(s)
    if scales is not None:
        factors = [float(n) for n in scales.array.reshape(-1)]
    elif z is not None:
        factors = [int(n) / m for n, m in zip(z.array.reshape(-1), x.static_shape, strict=True)]
    else:
        raise Skip("the resize has no target")
    if any(f < 1 or f != int(f) for f in factors) or factors[:2] != [1, 1] or prod(factors) == 1:
        raise Skip("the resize is not to a whole multiple of each spatial axis")
    return tuple(int(f) for f in factors[2:])


def _require_window(shape: Geometry, x: Value, w: Value) -> None:
    require_float(x)
    require_constant(w, "the weight")
    if not shape.dense or any(d != 1 for d in shape.dilations):
        raise Skip("the convolution has strides or dilations")
    if all(k == 1 for k in shape.kernel):
        raise Skip("the convolution is pointwise")


@rule(
    op.Conv(op.Resize(x, r, s, attributes=e), w, attributes=a),
    op.Conv(op.Resize(x, r, s, attributes=e), w, b, attributes=a),
    op.Conv(op.Resize(x, r, s, z, attributes=e), w, attributes=a),
    op.Conv(op.Resize(x, r, s, z, attributes=e), w, b, attributes=a),
    drift="rounding",
    example=[
        {**SCALED, "pattern": 0},
        {**SCALED, "pattern": 1, "s": "f32[4] = 1 1 3 2", "e": {"mode": "nearest"}},
        {**SCALED, "pattern": 1, "a": {"pads": (0, 1, 2, 0)}, "w": "f32[6,4,3,2] const", "x": "f32[N,4,3,4]"},
        {**SCALED, "s": None, "z": "i64[4] = 2 4 6 8", "pattern": 2},
        {**SCALED, "s": None, "z": "i64[4] = 2 4 6 4", "pattern": 3},
    ],
    refuse=[
        {**SCALED, "pattern": 1, "s": "f32[4] = 1 1 1.5 2", "x": "f32[2,4,4,4]", "because": "whole multiple"},
        {**SCALED, "pattern": 1, "e": {"mode": "linear"}, "because": "interpolates"},
        {**SCALED, "pattern": 1, "e": {**FLOOR, "nearest_mode": "ceil"}, "because": "another way"},
        {**SCALED, "pattern": 1, "a": {"group": 2, "strides": (2, 2)}, "because": "strides"},
        {**SCALED, "pattern": 1, "a": {"group": 2, "pads": (3, 3, 3, 3)}, "because": "wider"},
        {**SCALED, "pattern": 1, "w": "f32[6,2,1,1] const", "a": {"group": 2}, "because": "pointwise"},
    ],
)
def conv_after_nearest_upsampling(
    x: Value,
    w: Value,
    b: Value | None,
    s: Value,
    z: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """Conv(Resize(x, nearest, f), w, b) = ConvTranspose(x, w with a box of f, b) with strides f."""
    shape = of_convolution(w, a)
    _require_window(shape, x, w)
    copies = _copies(x, s, z, e)
    kernel = tuple(k + f - 1 for k, f in zip(shape.kernel, copies, strict=True))
    begin = tuple(k - 1 - p for k, p in zip(shape.kernel, shape.begin, strict=True))
    end = tuple(k - 1 - p for k, p in zip(shape.kernel, shape.end, strict=True))
    if min(*begin, *end) < 0:
        raise Skip("the padding is wider than the kernel")
    weight = _transposed(_with_box(w, copies, 1.0), w, shape.group, kernel)
    stated = {"kernel_shape": kernel, "strides": copies, "pads": (*begin, *end), "group": shape.group}
    return op.ConvTranspose(x, weight, b, **stated)


@rule(
    op.AveragePool(op.Conv(x, w, attributes=a), attributes=e),
    op.AveragePool(op.Conv(x, w, b, attributes=a), attributes=e),
    drift="rounding",
    example=[
        POOLED,
        {**POOLED, "x": "f16[N,4,6,7]", "w": "f16[6,2,3,3] const", "b": "f16[6]"},
        {**POOLED, "a": {"group": 2}, "e": {"kernel_shape": (2, 3), "strides": (2, 3)}},
    ],
    refuse=[
        {**POOLED, "e": {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (1, 1, 1, 1)}, "because": "pads"},
        {**POOLED, "e": {"kernel_shape": (3, 3)}, "because": "overlap"},
        {**POOLED, "a": {"group": 2, "dilations": (2, 2)}, "because": "dilations"},
        {**POOLED, "e": {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}, "because": "rounded up"},
    ],
)
def average_pool_after_conv(x: Value, w: Value, b: Value | None, a: Mapping[str, Any], e: Mapping[str, Any]) -> Term:
    """AveragePool(Conv(x, w, b), f) = Conv(x, w with a box of 1/f, b) with strides f."""
    shape, pool = of_convolution(w, a), geometry(e)
    _require_window(shape, x, w)
    if e.get("ceil_mode", 0):
        raise Skip("the result's size is rounded up")
    if pool.padded or any(d != 1 for d in pool.dilations):
        raise Skip("the pool pads or skips positions")
    if pool.kernel != pool.strides:
        raise Skip("the pool's windows overlap")
    weight = _with_box(w, pool.kernel, 1.0 / prod(pool.kernel))
    kernel = tuple(k + f - 1 for k, f in zip(shape.kernel, pool.kernel, strict=True))
    return op.Conv(x, weight, b, **{**shape.attributes(), "kernel_shape": kernel, "strides": pool.kernel})
