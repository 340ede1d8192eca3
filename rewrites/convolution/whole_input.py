"""A convolution whose kernel is as large as its input is a matrix product.

The other way round, squeeze and excitation written with linear layers on one pixel as 1x1 convolutions, measures 0.98
to 1.02 times as fast in ONNX Runtime on the CPU: not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float
from .geometry import of_convolution

x, w, b, a = var("x w b a")

WHOLE = {"x": "f32[2,3,4,5]", "w": "f32[6,3,4,5] const", "b": "f32[6] const", "a": {}}


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
    require_float(x)
    require_constant(w, "the weight")
    shape = of_convolution(w, a)
    if shape.group != 1:
        raise Skip("the convolution has groups")
    stretched = any(d != 1 and k != 1 for d, k in zip(shape.dilations, shape.kernel, strict=True))
    if shape.padded or stretched or x.shape[2:] != shape.kernel:
        raise Skip("the padded input is larger than the kernel, or not known to be as large")
    outputs, *inner = w.static_shape
    count = prod(inner)
    rows = op.Reshape(x, ints(0, count))
    weight = op.Transpose(op.Reshape(w, ints(outputs, count)), perm=(1, 0))
    product = op.MatMul(rows, weight) if b is None else op.Gemm(rows, weight, b)
    return op.Reshape(product, ints(0, outputs, *(1,) * len(shape.kernel)))
