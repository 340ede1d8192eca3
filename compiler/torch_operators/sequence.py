"""Sequences (Python lists of tensors) and optional values (a value, or `None`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .control_flow import Body
from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("SequenceConstruct", folds=False)
def sequence_construct(op: Operation, *tensors: Tensor) -> Any:
    """A sequence of tensors."""
    return op.call(listed, *tensors)


@operator("SequenceEmpty", folds=False)
def sequence_empty(op: Operation) -> Any:
    """A sequence without elements."""
    return op.call(listed)


@operator("SequenceAt", folds=False)
def sequence_at(op: Operation, sequence: Any, position: Tensor) -> Any:
    """One element."""
    return op.call(element, sequence, where(op, 1, position))


@operator("SequenceInsert", folds=False)
def sequence_insert(op: Operation, sequence: Any, tensor: Tensor, position: Tensor | None = None) -> Any:
    """The sequence with one element more, by default at its end."""
    return op.call(inserted, sequence, tensor, None if position is None else where(op, 2, position))


@operator("SequenceErase", folds=False)
def sequence_erase(op: Operation, sequence: Any, position: Tensor | None = None) -> Any:
    """The sequence without one element, by default its last."""
    return op.call(erased, sequence, -1 if position is None else where(op, 1, position))


@operator("SequenceLength", folds=False)
def sequence_length(op: Operation, sequence: Any) -> Any:
    """Number of elements."""
    return op.call(length, sequence)


@operator("ConcatFromSequence", folds=False)
def concat_from_sequence(op: Operation, sequence: Any) -> Tensor:
    """The elements joined along an axis, which may be new."""
    function = torch.stack if op.attribute("new_axis", 0) else torch.cat
    return op.call(function, sequence, op.required("axis"))


@operator("SplitToSequence", folds=False)
def split_to_sequence(op: Operation, x: Tensor, split: Tensor | None = None) -> Any:
    """Parts along an axis."""
    keep = bool(op.attribute("keepdims", 1))
    if split is None:
        return op.call(parted, x, 1, op.attribute("axis", 0), keep)
    known = op.integers(1)
    sizes = split if known is None else (known.items[0] if known.scalar else known.items)
    return op.call(parted, x, sizes, op.attribute("axis", 0), True)


@operator("SequenceMap", folds=False)
def sequence_map(op: Operation, first: Any, *others: Any) -> list[Any]:
    """A sub-graph applied to each element."""
    body, captures = op.scope.subgraph(op.node.attributes["body"].as_graph())
    found = op.call(mapped, first, list(others), body, captures, len(op.node.outputs))
    return [found[index] for index in range(len(op.node.outputs))]


@operator("Optional", folds=False)
def optional(op: Operation, value: Any = None) -> Any:
    """A value that may be absent."""
    return op.call(same, value)


@operator("OptionalGetElement", folds=False)
def optional_get_element(op: Operation, value: Any) -> Any:
    """The value, which must be there."""
    return value


@operator("OptionalHasElement", folds=False)
def optional_has_element(op: Operation, value: Any = None) -> Any:
    """Whether there is a value."""
    return op.call(present, value)


def where(op: Operation, index: int, position: Tensor) -> Any:
    """A position as a number, now or when the program runs."""
    known = op.fixed(index)
    return op.call(int, position) if known is None else known[0]


def listed(*tensors: Tensor) -> list[Tensor]:
    """The tensors as a list."""
    return list(tensors)


def element(sequence: list[Any], position: int) -> Any:
    """One element."""
    return sequence[position]


def inserted(sequence: list[Tensor], tensor: Tensor, position: int | None) -> list[Tensor]:
    """A copy with one element more."""
    position = len(sequence) if position is None else position
    position = position + len(sequence) if position < 0 else position
    return [*sequence[:position], tensor, *sequence[position:]]


def erased(sequence: list[Tensor], position: int) -> list[Tensor]:
    """A copy without one element."""
    position = position + len(sequence) if position < 0 else position
    return [*sequence[:position], *sequence[position + 1 :]]


def length(sequence: list[Tensor]) -> Tensor:
    """Number of elements."""
    return torch.tensor(len(sequence))


def parted(x: Tensor, sizes: Tensor | int | list[int], axis: int, keep: bool) -> list[Tensor]:
    """Parts along an axis, of one size or of several."""
    parts = list(torch.split(x, sizes.tolist() if isinstance(sizes, torch.Tensor) else sizes, axis))
    return parts if keep else [part.squeeze(axis) for part in parts]


def mapped(first: list[Any], others: list[Any], body: Body, captures: list[Any], outputs: int) -> list[list[Any]]:
    """Call a body on each element; other sequences go along, tensors stay the same."""
    rows = [
        body(item, *(other[index] if isinstance(other, list) else other for other in others), *captures)
        for index, item in enumerate(first)
    ]
    return [[row[output] for row in rows] for output in range(outputs)]


def same(value: Any) -> Any:
    """The value itself."""
    return value


def present(value: Any) -> Tensor:
    """Whether there is a value."""
    return torch.tensor(value is not None)
