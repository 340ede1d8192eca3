"""Groups of whole heads: columns of queries, keys and values, and the rows of the output projection that read them.

Where several queries share a key and a value the unit is that group of heads: attention wants equally many in each.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...compiler.ir import dims, op_name
from ...compiler.rule import Skip
from .coupling import Refused, collect
from .groups import Group
from .layout import Layout
from .passages_of_attention import MASK, head_layouts, heads_of


def head_groups(model: ir.Model) -> tuple[list[Group], list[Refused]]:
    """Groups of heads, and what was refused."""
    return collect(_seeds(model.graph))


def _seeds(graph: ir.Graph) -> Iterator[tuple[ir.Value, Layout]]:
    for node in graph:
        if op_name(node) in MASK:
            yield from _of_operator(node)
        if op_name(node) == "Reshape":
            yield from _of_reshape(node)


def _of_operator(node: ir.Node) -> Iterator[tuple[ir.Value, Layout]]:
    try:
        queries, shared = heads_of(node)
        layout = head_layouts(node, queries if shared == 1 else shared)[-1]
    except Skip:
        return
    if layout is not None and layout.units > 1:
        yield node.outputs[0], layout


def _of_reshape(node: ir.Node) -> Iterator[tuple[ir.Value, Layout]]:
    """[…, heads·size] → […, heads, size], as attention is written where it is not one operator."""
    source, output = node.inputs[0], node.outputs[0]
    before, after = None if source is None else dims(source), dims(output)
    if before is None or after is None or len(after) <= len(before) or len(before) < 2:
        return
    heads = after[-2]
    if isinstance(heads, int) and heads > 1 and after[-1] != 1:
        yield output, Layout(len(after) - 2, heads)
