"""Inputs of one number that decide which branch is taken: a program for each of their values has no branches."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.fold import fold
from ...compiler.ir import bodies, captured, dims, unique_names
from ...compiler.opset import TARGET
from ...compiler.optimise import Names


def deciding(graph: ir.Graph) -> list[str]:
    """Inputs that the conditions of a model's branches depend on; empty where they depend on anything else too."""
    read = {v for node in graph.all_nodes() if node.op_type == "If" for v in node.inputs[:1] if v is not None}
    inputs = {value: None for value in graph.inputs if not value.is_initializer()}
    found: dict[str, None] = {}
    seen: set[ir.Value] = set()
    waiting = [v for v in read if not _is_inside(v, graph)]
    while waiting:
        value = waiting.pop()
        if value in seen or value.const_value is not None:
            continue
        seen.add(value)
        node = value.producer()
        if value in inputs and not _is_one_number(value):
            return []
        if value in inputs:
            found[value.name or ""] = None
        elif node is None or bodies(node):
            return []
        elif node.op_type not in ("Shape", "Size"):
            waiting += [v for v in (*node.inputs, *captured(node)) if v is not None]
    return [v.name or "" for v in inputs if v.name in found]


def _is_inside(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether a value is made within a branch: what the branch above it is decides first."""
    node = value.producer()
    return node is not None and node.graph is not graph


def _is_one_number(value: ir.Value) -> bool:
    shape = dims(value)
    if shape is None or value.dtype is None or not (value.dtype.is_integer() or value.dtype == ir.DataType.BOOL):
        return False
    return all(isinstance(d, int) for d in shape) and prod(d for d in shape if isinstance(d, int)) == 1


def decided(model: ir.Model, values: Mapping[str, Array]) -> ir.Model:
    """A copy in which these inputs are constants, and the branches that they decide are taken.

    Taken here, for runtimes are seldom shown branches that are decided: one ends the process where it meets some.
    """
    model = model.clone()
    for value in [v for v in model.graph.inputs if v.name in values]:
        array = np.asarray(values[value.name or ""])
        value.const_value = ir.tensor(
            array.astype(value.dtype.numpy() if value.dtype else array.dtype), name=value.name
        )
        value.shape = ir.Shape(array.shape)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    fold(model.graph, model.opset_imports.get("", TARGET), Names(unique_names(model.graph)))
    return model
