"""Put an instance's new program where its old nodes were."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from .blocks import Instance
from .decode import Written
from .ir import CAUSAL


def splice(graph: ir.Graph, instance: Instance, written: Written, fresh: Callable[[str], str]) -> None:
    """Replace the instance's nodes; names of the graph's outputs are kept.

    Args:
        graph: changed in place; it stays topologically sorted.
        instance: its nodes are removed.
        written: the program that takes their place.
        fresh: gives an unused name that starts with its argument.
    """
    anchor = instance.nodes[-1]
    for value in written.constants:
        graph.register_initializer(value)
    graph.insert_after(anchor, written.nodes)
    made = {v for node in written.nodes for v in node.outputs}
    given: set[ir.Value] = set()
    for old, new in zip(instance.outputs, written.outputs, strict=True):
        result = new
        if old.is_graph_output() and (new not in made or new in given or new.is_graph_output()):
            result = _identity(graph, anchor if not written.nodes else written.nodes[-1], new, fresh)
        if old.is_graph_output():
            given.add(result)
            _become_output(graph, old, result)
        if old.meta.get(CAUSAL):  # the same values are the same mask
            result.meta[CAUSAL] = True
        old.replace_all_uses_with(result)
    graph.remove(reversed(instance.nodes), safe=True)


def _identity(graph: ir.Graph, after: ir.Node, value: ir.Value, fresh: Callable[[str], str]) -> ir.Value:
    """A graph output needs a value of its own: an input, a constant or another output cannot carry its name."""
    output = ir.Value(name=fresh("tamago/value"), shape=value.shape, type=value.type)
    graph.insert_after(after, ir.Node("", "Identity", [value], outputs=[output], name=fresh("tamago/output")))
    return output


def _become_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    name, old_type, old_shape = old.name, old.type, old.shape
    for position, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[position] = new
    old.name = f"{name}/replaced"
    new.name, new.type, new.shape = name, old_type or new.type, old_shape if old_shape is not None else new.shape
    new.metadata_props.update(old.metadata_props)
