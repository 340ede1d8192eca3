"""A convolution of joined channels is a sum of convolutions of the parts.

By itself that only trades a copy for a sum; it pays where a part then takes its convolution in: a map that was resized
to be joined (the decoders of SegFormer, FPN and U-Net), or one that a linear layer made.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float, shape_operand
from .geometry import of_convolution

x, y, w, b, a, axis, s = var("x y w b a axis s")
rest = Rest("rest")
MOST = 6  # parts: a longer Concat (DenseNet) joins what is read elsewhere as well

PARTS = {
    "x": "f32[2,3,5,6]",
    "y": "f32[2,2,5,6]",
    "rest": (),
    "axis": 1,
    "w": "f32[4,5,3,3] const",
    "b": "f32[4] const",
    "a": {"pads": (1, 1, 1, 1)},
}
VIEW = {"x": "f32[2,3,20]", "s": "i64[4] = 2 3 4 5", "w": "f32[6,3,1,1] const", "b": "f32[6] const", "a": {}}


@rule(
    op.Conv(op.Concat(x, y, rest, axis=axis), w, attributes=a),
    op.Conv(op.Concat(x, y, rest, axis=axis), w, b, attributes=a),
    drift="rounding",
    example=[
        PARTS,
        {**PARTS, "axis": -3, "rest": ("f32[2,1,5,6]",), "w": "f32[4,6,1,1] const", "a": {"strides": (2, 1)}},
        {**PARTS, "x": "f32[N,3,5,6]", "y": "f32[N,2,5,6]", "a": {"auto_pad": "SAME_UPPER"}},
    ],
    refuse=[
        {**PARTS, "y": "f32[2,3,5,6]", "axis": 2, "w": "f32[4,3,3,3] const", "because": "channels"},
        {**PARTS, "y": "f32[2,3,5,6]", "w": "f32[4,3,3,3] const", "a": {"group": 2}, "because": "groups"},
        {**PARTS, "w": "f32[4,5,3,3]", "because": "computed"},
        {**PARTS, "rest": ("f32[2,1,5,6]",) * 5, "w": "f32[4,10,1,1] const", "a": {}, "because": "many"},
    ],
)
def conv_of_concat(
    x: Value,
    y: Value,
    rest: tuple[Value, ...],
    axis: int,
    w: Value,
    b: Value | None,
    a: Mapping[str, Any],
) -> Term:
    """Conv(Concat(x, y), w, b) = Conv(x, w for x, b) + Conv(y, w for y), joined along the channels."""
    require_float(x)
    require_constant(w, "the weight")
    channels = x.shape[1] if x.rank == w.rank else None
    if axis % w.rank != 1 or not isinstance(channels, int):
        raise Skip("what is joined are not channels, or how many is not known")
    if int(a.get("group", 1)) != 1:
        raise Skip("the convolution has groups")
    if len(rest) + 2 > MOST:
        raise Skip("there are too many parts")
    first = op.Slice(w, ints(0), ints(channels), ints(1))
    others = op.Slice(w, ints(channels), ints(w.static_shape[1]), ints(1))
    joined = op.Concat(y, *rest, axis=axis) if rest else y
    return op.Add(op.Conv(x, first, b, **a), op.Conv(joined, others, **a))


@rule(
    op.Conv(op.Reshape(x, s), w, attributes=a),
    op.Conv(op.Reshape(x, s), w, b, attributes=a),
    drift="rounding",
    example=[
        VIEW,
        {**VIEW, "x": "f32[N,3,20]", "s": "i64[4] = 0 3 4 5"},
        {**VIEW, "x": "f32[2,3,4,5]", "s": "i64[3] = 2 3 20", "w": "f32[6,3,1] const", "b": "f32[6]"},
    ],
    refuse=[
        {**VIEW, "w": "f32[6,3,3,3] const", "because": "pointwise"},
        {**VIEW, "x": "f32[2,6,10]", "because": "channels"},
        {**VIEW, "w": "f32[6,1,1,1] const", "a": {"group": 3}, "because": "groups"},
    ],
)
def pointwise_conv_of_reshape(x: Value, w: Value, b: Value | None, a: Mapping[str, Any], root: Value) -> Term:
    """Conv(Reshape(x, other spatial axes), w, b) = Reshape(w·x + b) with a 1x1 kernel: a matrix product on channels."""
    require_float(x)
    require_constant(w, "the weight")
    shape = of_convolution(w, a)
    if not shape.pointwise or not shape.dense:
        raise Skip("the convolution is not pointwise on every position")
    if shape.group != 1:
        raise Skip("the convolution has groups")
    outputs, inputs = w.static_shape[:2]
    if x.rank < 3 or x.shape[1] != inputs or x.shape[0] != root.shape[0] or x.shape[0] is None:
        raise Skip("the Reshape mixes batch and channels with the rest")
    flat = x if x.rank == 3 else op.Reshape(x, shape_operand((x.shape[0], inputs, _positions(x))))
    product = op.MatMul(op.Reshape(w, ints(outputs, inputs)), flat)
    if b is not None:
        product = op.Add(product, op.Reshape(b, ints(-1, 1)))
    return op.Reshape(product, shape_operand(root.shape))


def _positions(x: Value) -> int:
    sizes = [size for size in x.shape[2:] if isinstance(size, int)]
    if len(sizes) != x.rank - 2:
        raise Skip("a spatial size is not known")
    return prod(sizes)
