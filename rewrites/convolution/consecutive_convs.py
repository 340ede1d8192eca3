"""Two convolutions in a row, one of them pointwise, are one: taken only where that is no more arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float
from .geometry import Geometry, of_convolution

x, w, b, v, d, a, e = var("x w b v d a e")

FIRST = {"x": "f32[2,4,6,6]", "w": "f32[8,4,3,3] const", "b": "f32[8] const", "a": {"pads": (1, 1, 1, 1)}}
THEN_POINTWISE = {**FIRST, "v": "f32[5,8,1,1] const", "d": "f32[5] const", "e": {"strides": (2, 2)}}
THEN_SPATIAL = {
    "x": "f32[2,4,6,6]",
    "w": "f32[8,4,1,1] const",
    "b": "f32[8] const",
    "a": {},
    "v": "f32[5,8,3,3] const",
    "d": "f32[5] const",
    "e": {"strides": (2, 2)},
}


def _patterns() -> list[Any]:
    inner = (op.Conv(x, w, attributes=a), op.Conv(x, w, b, attributes=a))
    return [op.Conv(i, v, *last, attributes=e) for i in inner for last in ((), (d,))]


def _geometries(w: Value, v: Value, a: Mapping[str, Any], e: Mapping[str, Any]) -> tuple[Geometry, Geometry]:
    require_constant(w, "the first weight")
    require_constant(v, "the second weight")
    first, second = of_convolution(w, a), of_convolution(v, e)
    if first.group != 1 or second.group != 1:
        raise Skip("a convolution has groups")
    return first, second


def _through(v: Value, b: Value | None, d: Value | None) -> Term | None:
    """The first bias through the second convolution, plus its own: Σ v·b + d."""
    for bias in (b, d):
        if bias is not None:
            require_constant(bias, "a bias")
    if b is None:
        return d
    axes = ints(*range(1, v.rank))
    answer = op.ReduceSum(op.Mul(v, op.Reshape(b, ints(-1, *(1,) * (v.rank - 2)))), axes, keepdims=0)
    return answer if d is None else op.Add(answer, d)


@rule(
    *_patterns(),
    drift="rounding",
    example=[
        THEN_POINTWISE,
        {**THEN_POINTWISE, "x": "f32[N,4,6,5]", "a": {"strides": (2, 1)}},
        {**THEN_POINTWISE, "x": "f32[2,4,6]", "w": "f32[8,4,3] const", "v": "f32[5,8,1] const", "a": {}, "e": {}},
    ],
    refuse=[
        {**THEN_POINTWISE, "v": "f32[50,8,1,1] const", "d": "f32[50] const", "because": "more arithmetic"},
        {**THEN_POINTWISE, "w": "f32[8,1,3,3] const", "a": {"group": 4}, "because": "groups"},
        {**THEN_POINTWISE, "e": {"pads": (1, 1, 1, 1)}, "because": "pointwise"},
    ],
)
def pointwise_after_conv(
    x: Value,
    w: Value,
    b: Value | None,
    v: Value,
    d: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """Conv(Conv(x, w, b), v, d) = Conv(x, v·w, v·b + d) when v is pointwise."""
    require_float(x)
    first, second = _geometries(w, v, a, e)
    if not second.pointwise:
        raise Skip("the second convolution is not pointwise")
    middle, inputs, *kernel = w.static_shape
    outputs, window = v.static_shape[0], inputs * prod(kernel)
    stride = prod(second.strides)
    if outputs * window > stride * middle * window + outputs * middle:
        raise Skip("one convolution would be more arithmetic than the two")
    weight = op.MatMul(op.Reshape(v, ints(outputs, middle)), op.Reshape(w, ints(middle, window)))
    steps = tuple(i * j for i, j in zip(first.strides, second.strides, strict=True))
    return op.Conv(
        x,
        op.Reshape(weight, ints(outputs, inputs, *kernel)),
        _through(v, b, d),
        **{**first.attributes(), "strides": steps},
    )


@rule(
    *_patterns(),
    drift="rounding",
    example=[THEN_SPATIAL, {**THEN_SPATIAL, "a": {"strides": (2, 1)}, "x": "f32[1,4,9,6]", "e": {"dilations": (1, 2)}}],
    refuse=[
        {**THEN_SPATIAL, "w": "f32[8,40,1,1] const", "x": "f32[2,40,6,6]", "because": "more arithmetic"},
        {**THEN_SPATIAL, "e": {"pads": (1, 1, 1, 1)}, "pattern": 2, "because": "bias"},
        {**THEN_SPATIAL, "w": "f32[8,4,3,3] const", "because": "pointwise"},
    ],
)
def conv_after_pointwise(
    x: Value,
    w: Value,
    b: Value | None,
    v: Value,
    d: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """Conv(Conv(x, w, b), v, d) = Conv(x, v·w, Σ v·b + d) when w is pointwise."""
    require_float(x)
    first, second = _geometries(w, v, a, e)
    if not first.pointwise:
        raise Skip("the first convolution is not pointwise")
    if b is not None and second.padded:
        raise Skip("the padding would have to become the first convolution's bias")
    middle, inputs = w.static_shape[:2]
    outputs, _, *kernel = v.static_shape
    window = prod(kernel)
    if outputs * inputs * window > prod(second.strides) * middle * inputs + outputs * middle * window:
        raise Skip("one convolution would be more arithmetic than the two")
    # [O, M, k] -> [O, k, M] · [M, I] -> [O, k, I] -> [O, I, k]
    rows = op.Transpose(op.Reshape(v, ints(outputs, middle, window)), perm=(0, 2, 1))
    weight = op.Transpose(op.MatMul(rows, op.Reshape(w, ints(middle, inputs))), perm=(0, 2, 1))
    reach = tuple(i * j for i, j in zip(first.strides, second.dilations, strict=True))
    steps = tuple(i * j for i, j in zip(first.strides, second.strides, strict=True))
    if any(s > 1 for s in first.strides) and second.padded:
        raise Skip("the padding lies on the first convolution's coarse grid")
    return op.Conv(
        x,
        op.Reshape(weight, ints(outputs, inputs, *kernel)),
        _through(v, b, d),
        **{**second.attributes(), "strides": steps, "dilations": reach},
    )
