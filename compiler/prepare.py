"""Bring any ONNX model to the IR's invariants, without changing what it computes."""

from __future__ import annotations

import onnx_ir as ir

from .inline import inline
from .ir import graphs


def prepare(model: ir.Model, keep: tuple[str, ...] = ()) -> list[str]:
    """Sort, inline functions, freeze weights that stand among the inputs.

    Args:
        model: changed in place.
        keep: names of inputs with default values that must stay overridable.

    Returns:
        Notes for the report.
    """
    notes: list[str] = []
    inline(model)
    frozen = _freeze(model.graph, keep)
    if frozen:
        notes.append(
            f"{len(frozen)} weights stood among the inputs and were frozen ({', '.join(frozen[:4])}"
            f"{', …' if len(frozen) > 4 else ''}); name them in `keep` to leave them overridable"
        )
    for graph in list(graphs(model.graph)):
        graph.sort()
        _name_nodes(graph)
    return notes


def forget_untyped_shapes(model: ir.Model) -> None:
    """A shape without an element type cannot be written down in a file."""
    for graph in graphs(model.graph):
        for node in graph:
            for value in node.outputs:
                if value.type is None:
                    value.shape = None


def _freeze(graph: ir.Graph, keep: tuple[str, ...]) -> list[str]:
    """Old exporters list every weight as an input with a default: the runtime must then expect another value."""
    frozen = [v.name or "" for v in graph.inputs if v.name in graph.initializers and v.name not in keep]
    for value in [v for v in graph.inputs if v.name in frozen]:
        graph.inputs.remove(value)
    return frozen


def _name_nodes(graph: ir.Graph) -> None:
    """Nodes without a name get one after their first output, so that reports and metadata can refer to them."""
    for node in graph:
        if not node.name:
            named = [v.name for v in node.outputs if v.name]
            node.name = f"{node.op_type}/{named[0]}" if named else node.op_type
