"""What a passage asks of a node's operands: sizes that are known, constants, and the parts that it answers with."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ...compiler.facts import Dim
from ...compiler.ir import attribute_values, constant_array, constant_tensor, dims, op_name
from ...compiler.rule import Skip
from .groups import Count, Role, Size, Slice
from .layout import Layout

Part = Slice | Size | Count | tuple[ir.Value, Layout]
MOST_ENTRIES = 64  # of a constant that says axes, pads or a shape


def shape(value: ir.Value) -> tuple[Dim, ...]:
    """The value's dimensions; `Skip` when its rank is not known."""
    found = dims(value)
    if found is None:
        raise Skip(f"the rank of {value.name} is not known")
    return found


def rank(value: ir.Value) -> int:
    """How many dimensions it has; `Skip` when that is not known."""
    return len(shape(value))


def is_constant(value: ir.Value | None) -> bool:
    """Whether it is an initializer that nobody can override."""
    return value is not None and constant_tensor(value) is not None


def weight(node: ir.Node, index: int) -> tuple[int, ...]:
    """The shape of a constant operand.

    Raises:
        Skip: it is computed.
    """
    value = node.inputs[index]
    tensor = None if value is None else constant_tensor(value)
    if tensor is None:
        raise Skip(f"the weight of {op_name(node)} is no constant")
    return tuple(int(d) for d in tensor.shape.numpy())


def operand(node: ir.Node, index: int, layout: Layout, role: Role = "each") -> Part:
    """An operand in which the units lie like this: a slice of a constant, or a value to follow."""
    value = node.inputs[index]
    assert value is not None
    if shape(value)[layout.axis] != layout.length:
        raise Skip(f"the size of {value.name} is not known")
    return Slice(node, index, layout, role) if is_constant(value) else (value, layout)


def present(node: ir.Node, index: int) -> bool:
    """Whether the node has this input."""
    return index < len(node.inputs) and node.inputs[index] is not None


def integers(node: ir.Node, index: int, name: str = "") -> tuple[int, ...] | None:
    """Numbers from a constant input, or from an attribute in older operators; None: they are not stated.

    Raises:
        Skip: they are computed.
    """
    if not present(node, index):
        stated: Any = attribute_values(node).get(name)
        return None if stated is None else tuple(int(d) for d in stated)
    value = node.inputs[index]
    array = None if value is None else constant_array(value, MOST_ENTRIES)
    if array is None:
        raise Skip(f"what {op_name(node)} does depends on a number that is computed")
    return tuple(int(d) for d in array.reshape(-1).tolist())


def other_outputs_unused(node: ir.Node) -> None:
    """Check that only the first output is read.

    Raises:
        Skip: another is.
    """
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        raise Skip(f"another output of {op_name(node)} is read")


def opposite(node: ir.Node, value: ir.Value) -> ir.Value:
    """The first output for the first input, and the other way round.

    Raises:
        Skip: the value is another operand.
    """
    if value is node.outputs[0]:
        found = node.inputs[0]
        assert found is not None
        return found
    if value is not node.inputs[0]:
        raise Skip(f"the channels decide what {op_name(node)} does")
    return node.outputs[0]
