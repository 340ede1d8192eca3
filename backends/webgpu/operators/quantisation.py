"""Numbers on a scale of few steps, and what is interpolated with weights that are known ahead."""

from __future__ import annotations

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Index, Subscript, add, div
from ..types import computed
from .registry import element

_RANGES = {
    "INT4": (-8, 7),
    "UINT4": (0, 15),
    "INT8": (-128, 127),
    "UINT8": (0, 255),
    "INT16": (-32768, 32767),
    "UINT16": (0, 65535),
}


def _on_grid(dtype: ir.DataType | None) -> bool:
    return dtype is not None and dtype.name in _RANGES


def _place(e: Element) -> Subscript:
    """The subscript of the scale beside an element: one for all, one for each slice of an axis, or for each block."""
    shape, axis, size = e.shape_of(1), e.integer("axis", 1), e.integer("block_size", 0)
    if not shape or shape == (1,):
        return (0,) * len(shape)
    axis %= len(e.shape)
    if len(shape) == 1 and not (size and len(e.shape) == 1):
        return (e.at[axis],)
    return tuple(div(i, size) if a == axis else i for a, i in enumerate(e.at))


def _quantizes(node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and computed(x.dtype) in ("f32", "i32") and _on_grid(node.outputs[0].dtype)


@element("QuantizeLinear", cost=4, pointwise=True, applies=_quantizes)
def quantize_linear(e: Element) -> str:
    """round(x/scale) + zero, held within the type."""
    place, dtype = _place(e), e.value.dtype
    assert dtype is not None
    low, high = _RANGES[dtype.name]
    text = f"round({_exact(e.aligned(0), e)} / {e.input(1, place)})"
    if e.has(2):
        text = f"{text} + f32({e.input(2, place)})"
    return f"{e.kind}(clamp({text}, {e.literal(low, 'f32')}, {e.literal(high, 'f32')}))"


def _exact(x: str, e: Element) -> str:
    return x if e.kind_of(0) == "f32" else f"f32({x})"


def _dequantizes(node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and (_on_grid(x.dtype) or x.dtype == ir.DataType.INT32)


@element("DequantizeLinear", cost=2, pointwise=True, applies=_dequantizes)
def dequantize_linear(e: Element) -> str:
    """(x − zero)·scale."""
    place = _place(e)
    x = e.aligned(0)
    if e.has(2):
        x = f"i32({x}) - i32({e.input(2, place)})"
    return f"(f32({x}) * {e.input(1, place)})"


@element("Interpolate", cost=4)
def interpolate(e: Element) -> str:
    """Σ weight·x along an axis, from an index that is known for each element on; beyond the edge lies the edge."""
    axis, size = e.integer("axis", 0), e.shape_of(0)[e.integer("axis", 0)]
    taps = shape_of(e.operand(2))[0]
    first = e.shader.index(f"{e.input(1, (e.at[axis],))}")

    def term(number: Index) -> str:
        at = e.shader.index(f"clamp({add(first, number)}, 0, {size - 1})")
        x = e.input(0, [at if a == axis else i for a, i in enumerate(e.at)])
        return f"{x} * {e.input(2, (number, e.at[axis]))}"

    if taps <= 4:
        return f"({' + '.join(term(number) for number in range(taps))})"
    total, tap = e.shader.name("sum"), e.shader.name("k")
    e.shader.line(f"var {total} = 0.0;")
    with e.shader.block(f"for (var {tap} = 0; {tap} < {taps}; {tap}++)"):
        e.shader.line(f"{total} += {term(tap)};")
    return total


@element(
    "Range",
    cost=1,
    applies=lambda node: all(v is not None and computed(v.dtype) in ("f32", "i32") for v in node.inputs),
)
def range_(e: Element) -> str:
    """Start + i·delta."""
    i = e.at[0]
    number = f"f32({i})" if e.kind == "f32" else f"{i}"
    return f"({e.scalar(0)} + {number} * {e.scalar(2)})"
