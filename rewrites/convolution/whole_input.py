"""A convolution whose kernel is as large as its input is a matrix product; a product on one pixel is a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float
from .geometry import of_convolution

x, w, b, a, s = var("x w b a s")

WHOLE = {"x": "f32[2,3,4,5]", "w": "f32[6,3,4,5] const", "b": "f32[6] const", "a": {}}
PIXEL = {"x": "f32[2,3,1,1]", "w": "f32[6,3] const", "b": "f32[6] const", "s": "i64[2] = 2 3"}


@rule(
    op.Conv(x, w, attributes=a),
    op.Conv(x, w, b, attributes=a),
    drift="rounding",
    example=[
        WHOLE,
        {"x": "f32[N,8,1,1]", "w": "f32[4,8,1,1] const", "b": "f32[4]", "a": {"strides": (2, 2)}},
        {"x": "f32[1,3,7]", "w": "f32[2,3,7] const", "b": "f32[2] const", "a": {"auto_pad": "VALID"}},
    ],
    refuse=[
        {**WHOLE, "w": "f32[6,3,3,5] const", "because": "larger than the kernel"},
        {**WHOLE, "x": "f32[2,3,2,3]", "a": {"pads": (1, 1, 1, 1)}, "because": "larger"},
        {**WHOLE, "w": "f32[6,1,4,5] const", "a": {"group": 3}, "because": "groups"},
        {**WHOLE, "w": "f32[6,3,4,5]", "because": "computed"},
    ],
)
def conv_of_whole_input(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) = Flatten(x)·wᵀ + b when the kernel covers the input."""
    require_constant(w, "the weight")
    shape = of_convolution(w, a)
    if shape.group != 1:
        raise Skip("the convolution has groups")
    if (
        shape.padded
        or x.shape[2:] != shape.kernel
        or any(d != 1 for d in shape.dilations if shape.kernel != (1,) * len(shape.kernel))
    ):
        raise Skip("the padded input is larger than the kernel, or not known to be as large")
    outputs, *inner = w.static_shape
    count = 1
    for d in inner:
        count *= d
    rows = op.Reshape(x, ints(0, count))
    weight = op.Transpose(op.Reshape(w, ints(outputs, count)), perm=(1, 0))
    product = op.MatMul(rows, weight) if b is None else op.Gemm(rows, weight, b)
    return op.Reshape(product, ints(0, outputs, *(1,) * len(shape.kernel)))


@rule(
    op.Gemm(op.Reshape(x, s), w, b, transB=1),
    op.Gemm(op.Flatten(x), w, b, transB=1),
    op.Gemm(op.Squeeze(x, s), w, b, transB=1),
    drift="rounding",
    example=[
        {**PIXEL, "pattern": 0},
        {**PIXEL, "x": "f32[N,3,1,1]", "pattern": 1},
        {**PIXEL, "s": "i64[2] = 2 3", "pattern": 2},
    ],
    refuse=[
        {**PIXEL, "x": "f32[2,3,1,2]", "w": "f32[6,6] const", "pattern": 1, "because": "one pixel"},
        {**PIXEL, "w": "f32[6,3]", "pattern": 1, "because": "computed"},
    ],
)
def linear_on_one_pixel(x: Value, w: Value, b: Value, root: Value) -> Term:
    """Gemm(Flatten(x), w, b) = Flatten(Conv(x, w, b)) with a 1x1 kernel when x is one pixel: squeeze and excitation."""
    require_float(x)
    require_constant(w, "the weight")
    if x.rank != 4 or x.shape[2:] != (1, 1):
        raise Skip("the input is not one pixel")
    outputs, inputs = w.static_shape
    if x.shape[1] != inputs or b.rank != 1 or b.shape[0] != outputs:
        raise Skip("the shapes are not those of a convolution")
    return op.Reshape(op.Conv(x, op.Reshape(w, ints(outputs, inputs, 1, 1)), b, kernel_shape=(1, 1)), ints(0, outputs))
