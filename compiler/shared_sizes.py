"""Sizes that are known to be the same are computed once: `Shape(y)[0] = Shape(x)[0]` where both are called `batch`.

Exporters of old ask for sizes wherever they reshape, and so do forms of one layer after the other that must know them.
"""

from __future__ import annotations

import onnx_ir as ir

from .facts import Dim
from .ir import dims, graphs
from .shape_data import Data, shape_data


def share_sizes(graph: ir.Graph) -> int:
    """Replace every computation of sizes by the first that gives the same, in the graph and in its bodies.

    Returns:
        How many values were replaced; the nodes that made them are left for `fold.remove_unused`.
    """
    return sum(_share(inner) for inner in graphs(graph))


def _share(graph: ir.Graph) -> int:
    known: dict[ir.Value, Data] = {}
    first: dict[tuple[object, ...], ir.Value] = {}
    shared = 0
    for node in graph:
        data = shape_data(node, known)
        if data is None:
            continue
        output = node.outputs[0]
        known[output] = data
        key = _key(output, data)
        if key is None or first.setdefault(key, output) is output or output.is_graph_output():
            continue
        output.replace_all_uses_with(first[key])
        shared += 1
    return shared


def _key(output: ir.Value, data: Data) -> tuple[object, ...] | None:
    """What two values that hold the same have in common; None where not every entry has a number or a name."""
    shape: tuple[Dim, ...] | None = dims(output)
    if not data or None in data or shape is None or len(shape) > 1 or output.dtype is None:
        return None
    return output.dtype, len(shape), data
