"""How channels pass operators that only move, copy or cut."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...compiler.ir import attribute_values, constant_array, op_name
from ...compiler.rule import Skip
from .groups import Size
from .layout import Layout, regrouped
from .operands import MOST_ENTRIES, Part, integers, is_constant, operand, opposite, present, rank, shape


def _transpose(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    order = attribute_values(node).get("perm", tuple(reversed(range(rank(value)))))
    yield opposite(node, value), layout.at(order[layout.axis] if value is node.outputs[0] else order.index(layout.axis))


def _reshape(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    other, output = opposite(node, value), node.outputs[0]
    found = regrouped(layout, shape(value), shape(other))
    before, after = (found, layout) if value is output else (layout, found)
    yield other, found
    if op_name(node) != "Reshape":
        return
    entries = integers(node, 1)
    assert entries is not None
    copies = not attribute_values(node).get("allowzero")
    zeros = {i for i, entry in enumerate(entries) if entry == 0 and copies}
    if (after.axis in zeros) != (before.axis in zeros) or (after.axis in zeros and after != before):
        raise Skip("a Reshape copies the size of the channels elsewhere")
    if entries[after.axis] == after.length:
        yield Size(node, 1, after.axis, after.each)


def _expand(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    from_right = rank(value) - layout.axis
    axis = rank(output) - from_right
    if value is not output:
        yield opposite(node, value), layout.at(axis)
    elif rank(source) >= from_right and shape(source)[rank(source) - from_right] != 1:
        yield operand(node, 0, layout.at(rank(source) - from_right))
    entries = integers(node, 1)
    assert entries is not None
    position = len(entries) - from_right
    if position >= 0 and entries[position] == layout.length:
        yield Size(node, 1, position, layout.each)


def _reduce(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    attributes, full = attribute_values(node), rank(source)
    stated = integers(node, 1, "axes") or ()
    if not stated and attributes.get("noop_with_empty_axes"):
        yield opposite(node, value), layout
        return
    axes = {a % full for a in stated} or set(range(full))
    stays = [a for a in range(full) if a not in axes]
    if not attributes.get("keepdims", 1) and value is output:
        yield opposite(node, value), layout.at(stays[layout.axis])
        return
    if layout.axis in axes:
        raise Skip(f"{op_name(node)} takes channels together")
    yield opposite(node, value), layout if attributes.get("keepdims", 1) else layout.at(stays.index(layout.axis))


def _concat(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    if int(attribute_values(node)["axis"]) % rank(value) == layout.axis:
        raise Skip("the channels are concatenated with others")
    if value is not node.outputs[0]:
        yield node.outputs[0], layout
    yield from (operand(node, i, layout) for i, v in enumerate(node.inputs) if v is not value)


def _split(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    if int(attribute_values(node).get("axis", 0)) % rank(value) == layout.axis:
        raise Skip("the channels are split")
    if value is not node.inputs[0]:
        yield operand(node, 0, layout)
    yield from ((v, layout) for v in node.outputs if v is not value)


def _slice(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    other, size = opposite(node, value), rank(value)
    axes = integers(node, 3)
    if axes is None or layout.axis in {a % size for a in axes}:
        raise Skip("a range of the channels is cut out")
    yield other, layout


def _pad(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    other, pads, axes = opposite(node, value), integers(node, 1, "pads"), integers(node, 3)
    assert pads is not None
    places = tuple(range(rank(value))) if axes is None else tuple(a % rank(value) for a in axes)
    if layout.axis in places:
        place = places.index(layout.axis)
        if pads[place] or pads[place + len(places)]:
            raise Skip("channels are padded")
    yield other, layout


def _resize(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    other, attributes = opposite(node, value), attribute_values(node)
    axes = tuple(a % rank(value) for a in attributes.get("axes", range(rank(value))))
    yield other, layout
    if layout.axis not in axes:
        return
    place = axes.index(layout.axis)
    if present(node, 3):
        sizes = integers(node, 3)
        assert sizes is not None
        if sizes[place] != layout.length:
            raise Skip("the number of channels is resized")
        yield Size(node, 3, place, layout.each)
        return
    scales = node.inputs[2]
    found = None if scales is None else constant_array(scales, MOST_ENTRIES)
    if found is None or found[place] != 1:
        raise Skip("the number of channels is resized")


def _tile(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    repeats = integers(node, 1)
    assert repeats is not None
    if repeats[layout.axis] != 1:
        raise Skip("the channels are repeated")
    yield opposite(node, value), layout


def _shape(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """Reads sizes: harmless where it does not read that of the channels."""
    attributes, size = attribute_values(node), rank(value)
    start, stop, _ = slice(attributes.get("start", 0), attributes.get("end", size)).indices(size)
    if value is node.outputs[0] or start <= layout.axis < stop:
        raise Skip("the program computes with the number of channels")
    yield from ()


def _dropout(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    if is_constant(node.inputs[0]) or present(node, 2) or any(v.uses() for v in node.outputs[1:]):
        raise Skip("the Dropout is in training")
    yield opposite(node, value), layout


PASSAGES = {
    "Transpose": _transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Expand": _expand,
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
        _reduce,
    ),
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
    "Tile": _tile,
    "Shape": _shape,
    "Dropout": _dropout,
}
