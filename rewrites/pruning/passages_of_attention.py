"""How heads pass attention: head by head, grouped queries with the key and the value that they share."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...compiler.ir import attribute_values, op_name
from ...compiler.rule import Skip
from .groups import Count
from .layout import Layout
from .operands import Part, operand, other_outputs_unused, present, rank, shape

MASK = {"Attention": 3, "com.microsoft::MultiHeadAttention": 5, "com.microsoft::GroupQueryAttention": 10}
UNREAD = {
    "Attention": (4, 5),
    "com.microsoft::MultiHeadAttention": (3, 6, 7),
    "com.microsoft::GroupQueryAttention": (3, 4, 11),
}


def heads_of(node: ir.Node) -> tuple[int, int]:
    """How many heads queries have, and how many keys and values.

    Raises:
        Skip: it is not known, or the operands are not apart.
    """
    if not all(present(node, i) for i in range(3)):
        raise Skip(f"{op_name(node)} has queries, keys and values in one operand")
    queries, keys = node.inputs[0], node.inputs[1]
    assert queries is not None
    assert keys is not None
    if rank(queries) == 4:
        found = shape(queries)[1], shape(keys)[1]
    else:
        attributes = attribute_values(node)
        count = attributes.get("q_num_heads", attributes.get("num_heads"))
        found = count, attributes.get("kv_num_heads", count)
    first, second = found
    if not isinstance(first, int) or not isinstance(second, int) or not first or not second:
        raise Skip("the number of heads is not known")
    return first, second


def head_layouts(node: ir.Node, units: int) -> tuple[Layout | None, ...]:
    """Where so many heads, or groups of heads, lie in queries, keys, values and the output; None: they are not cut.

    Raises:
        Skip: heads are not apart in so many units.
    """
    queries, shared = heads_of(node)
    if queries % units or (shared % units and shared != 1):
        raise Skip("the channels of a head are mixed by attention")
    counts = (queries, shared, shared, queries)
    values = (*node.inputs[:3], node.outputs[0])
    return tuple(
        None if count % units else _layout(value, units, count)
        for value, count in zip(values, counts, strict=True)
        if value is not None
    )


def _layout(value: ir.Value, units: int, heads: int) -> Layout:
    sizes = shape(value)
    axis = 1 if len(sizes) == 4 else len(sizes) - 1
    width = sizes[axis]
    if not isinstance(width, int) or width % units:
        raise Skip(f"the size of {value.name} is not known")
    return Layout(axis, units, width // units)


def _attention(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[h] = softmax(q[h]·k[g]ᵀ)·v[g], with g the group of the head h."""
    other_outputs_unused(node)
    name = op_name(node)
    if any(present(node, i) for i in UNREAD[name]):
        raise Skip(f"{name} reads a cache, a bias or a sink for each head")
    found = head_layouts(node, layout.units)
    operands = (*node.inputs[:3], node.outputs[0])
    if not any(v is value and known == layout for v, known in zip(operands, found, strict=True)):
        raise Skip("the channels of a head are mixed by attention")
    for index, known in enumerate(found[:3]):
        if known is not None:
            yield operand(node, index, known)
    if found[3] is not None:
        yield node.outputs[0], found[3]
    yield from _mask(node, MASK[name], layout.units)
    for attribute, heads in zip(_attributes(name), heads_of(node), strict=False):
        if attribute in node.attributes and heads % layout.units == 0:
            yield Count(node, attribute, heads // layout.units)


def _attributes(name: str) -> tuple[str, ...]:
    return ("q_num_heads", "kv_num_heads") if name == "Attention" else ("num_heads", "kv_num_heads")


def _mask(node: ir.Node, index: int, units: int) -> Iterator[Part]:
    if not present(node, index):
        return
    mask = node.inputs[index]
    assert mask is not None
    sizes, heads = shape(mask), heads_of(node)[0]
    axis = len(sizes) - 3
    if axis >= 0 and sizes[axis] != 1:
        yield operand(node, index, Layout(axis, units, heads // units))


def _rotary(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """Pairs of a head's channels are turned by an angle that depends on the position."""
    output = node.outputs[0]
    if value not in (node.inputs[0], output):
        raise Skip("the channels are angles of a rotary embedding")
    other = output if value is not output else node.inputs[0]
    assert other is not None
    if rank(value) == 4:
        if layout.axis != 1:
            raise Skip("a rotary embedding takes channels in pairs")
        yield other, layout
        return
    heads = int(attribute_values(node).get("num_heads", 0))
    if layout.axis != 2 or layout.outer != 1 or not heads or heads % layout.units:
        raise Skip("a rotary embedding takes channels in pairs")
    yield other, layout
    yield Count(node, "num_heads", heads // layout.units)


PASSAGES = {
    **dict.fromkeys(MASK, _attention),
    "RotaryEmbedding": _rotary,
    "com.microsoft::RotaryEmbedding": _rotary,
}
