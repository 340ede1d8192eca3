"""Which operators commute with a matrix applied to one axis: f(x·Q) = f(x)·Q, and where that axis lies after them.

Axes are counted from the end, so that broadcasting does not move them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Dim
from ...compiler.ir import attribute_values, constant_array, constant_tensor, dims, op_name
from ...compiler.rule import Skip
from ...compiler.shapes.call import multiplied

SUMS = ("Add", "Sub", "Sum")
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
SAME_AXIS = ("Identity", "Neg", "Mul", "Div", "Expand")
ONE_OPERAND = (*SAME_AXIS, "Transpose", "Gather", "Slice", "ReduceMean", "ReduceSum", "Pad")
SMALL = 64  # elements of a shape, of axes, of pads


@dataclass(frozen=True)
class Operands:
    """The operands and the result that one matrix acts on.

    Args:
        inputs: (position, axis) of the operands; all must be in the same basis.
        output: axis of the result.
    """

    inputs: tuple[tuple[int, int], ...]
    output: int


def operands(node: ir.Node, position: int | None, axis: int) -> Operands:
    """What is in the basis of one operand (or of the result).

    Args:
        node: a node with one result.
        position: of the operand that is known to be; None: the result is.
        axis: of that operand or result, negative.

    Raises:
        Skip: the operator does not commute with a matrix on this axis.
    """
    if len([v for v in node.outputs if v.name]) != 1:
        raise Skip(f"{_named(node)} has several results")
    match op_name(node):
        case op if op in SUMS:
            return Operands(tuple((i, axis) for i, v in enumerate(node.inputs) if v is not None), axis)
        case "Concat":
            whole = _rank(node.outputs[0])
            if attribute_values(node)["axis"] % whole == axis + whole:
                raise Skip(f"{_named(node)} joins along the features")
            return Operands(tuple((i, axis) for i in range(len(node.inputs))), axis)
        case "Mul" | "Div":
            data = _scaled(node)
        case _:
            data = 0
    if position not in (None, data):
        raise Skip(f"{_named(node)} takes the stream for something else than data")
    return _unary(node, data, None if position is None else axis, axis)


def _unary(node: ir.Node, data: int, before: int | None, after: int) -> Operands:
    if before is not None:
        return Operands(((data, before),), image(node, before))
    source = node.inputs[data] if node.inputs else None
    if source is None or op_name(node) not in (*RESHAPES, *ONE_OPERAND):
        raise Skip(f"{_named(node)} acts on the features")
    for candidate in range(-_rank(source), 0):
        with suppress(Skip):
            if image(node, candidate) == after:
                return Operands(((data, candidate),), after)
    raise Skip(f"{_named(node)} does not keep the features apart")


def image(node: ir.Node, axis: int) -> int:
    """Where an axis of the data operand lies in the result of an operator with one data operand.

    Raises:
        Skip: the operator mixes, cuts or does not keep the axis.
    """
    match op_name(node):
        case op if op in SAME_AXIS:
            return axis
        case op if op in RESHAPES:
            return _reshaped(node, axis)
        case _:
            return _moved(node, axis)


def _moved(node: ir.Node, axis: int) -> int:
    attributes, rank = attribute_values(node), _rank(_data(node))
    place = axis + rank
    match op_name(node):
        case "Transpose":
            order = tuple(attributes.get("perm", range(rank - 1, -1, -1)))
            return order.index(place) - rank
        case "Gather" if attributes.get("axis", 0) % rank != place:
            cut = attributes.get("axis", 0) % rank
            return axis if place > cut else axis - (_rank(node.inputs[1]) - 1)
        case "Slice" if place not in _listed(node, 3, rank):
            return axis
        case "ReduceMean" | "ReduceSum" if place not in (gone := _listed(node, 1, rank)):
            return axis if attributes.get("keepdims", 1) else axis + sum(1 for a in gone if a > place)
        case "Pad" if _pads_nothing(node, place, rank):
            return axis
        case _:
            raise Skip(f"{_named(node)} acts on the features")


def _reshaped(node: ir.Node, axis: int) -> int:
    """The last axis stays the last, or an equal axis has the same sizes before it."""
    before, after = dims(_data(node)), dims(node.outputs[0])
    if before is None or after is None:
        raise Skip(f"the shapes around {_named(node)} are not known")
    width = before[axis]
    if axis == -1 and after and after[-1] == width:
        return -1
    leading = _sizes(before[: axis + len(before)])
    for place, size in enumerate(after):
        if size == width and _sizes(after[:place]) == leading:
            return place - len(after)
    raise Skip(f"{_named(node)} does not keep the features apart")


def _sizes(leading: tuple[Dim, ...]) -> tuple[int, Counter[str]] | object:
    """A product of dimensions; unknown ones equal nothing."""
    return multiplied(leading) or object()


def _scaled(node: ir.Node) -> int:
    """Position of what a node multiplies (or divides) by one constant number."""
    for position in (1, 0):
        value = node.inputs[position]
        tensor = None if value is None else constant_tensor(value)
        if tensor is not None and tensor.size == 1 and not (op_name(node) == "Div" and position == 0):
            return 1 - position
    raise Skip(f"{_named(node)} multiplies the stream by more than a number")


def _listed(node: ir.Node, position: int, rank: int) -> list[int]:
    """Axes that an operand or the attribute `axes` lists; all where nothing does."""
    stated = attribute_values(node).get("axes")
    if stated is None and len(node.inputs) > position and node.inputs[position] is not None:
        value = node.inputs[position]
        array = None if value is None else constant_array(value, SMALL)
        if array is None:
            raise Skip(f"the axes of {_named(node)} are computed")
        stated = array.reshape(-1)
    return list(range(rank)) if stated is None else [int(a) % rank for a in stated]


def _pads_nothing(node: ir.Node, place: int, rank: int) -> bool:
    """Whether zeros are added, and none to the axis."""
    inputs = list(node.inputs)
    pads = None if len(inputs) < 2 or inputs[1] is None else constant_array(inputs[1], SMALL)
    value = inputs[2] if len(inputs) > 2 else None
    number = np.zeros(1) if value is None else constant_array(value, 1)
    if pads is None or number is None or np.any(number) or (len(inputs) > 3 and inputs[3] is not None):
        return False
    return attribute_values(node).get("mode", "constant") == "constant" and not (pads[place] or pads[place + rank])


def stated_shape(node: ir.Node) -> Iterator[tuple[ir.Node, int, int]]:
    """The constant int64 operands that state a Reshape's or Expand's shape: (reader, position, first dimension).

    A shape that is joined from parts at run time (`Concat`) has several.
    """
    if op_name(node) not in ("Reshape", "Expand"):
        return
    shape = node.inputs[1]
    maker = None if shape is None else shape.producer()
    if maker is None or op_name(maker) != "Concat":
        yield node, 1, 0
        return
    first = 0
    for position, part in enumerate(maker.inputs):
        length = None if part is None else dims(part)
        if part is None or not length or not isinstance(length[0], int):
            return
        if constant_tensor(part) is not None:
            yield maker, position, first
        first += length[0]


def _data(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _rank(value: ir.Value | None) -> int:
    if value is None or value.shape is None:
        raise Skip(f"the shape of {value.name if value is not None else 'an operand'} is not known")
    return len(value.shape)


def _named(node: ir.Node) -> str:
    return f"{op_name(node)} {node.name or ''}".rstrip()
