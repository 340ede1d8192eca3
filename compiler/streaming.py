"""Programs that are not held in memory: the weights of a large model are read, used and let go, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnx_ir as ir

from .beside import each, runs_at_once
from .facts import Array
from .ir import weight_bytes, weights
from .mapped import is_mapped
from .memory import available_for

LARGEST_HELD = 1 << 30  # bytes of weights that lie in files: a model of more is streamed
SHARE = 8  # of the memory that is there; a model that takes more than one part of so many is streamed wherever it lies
HELD_TOGETHER = 1 << 30  # bytes of weights of parts that are timed in turn; of more, not all are in memory at once


def are_too_many(size: int) -> bool:
    """Whether so many bytes of weights are not to be held in memory where they lie in a file."""
    there = available_for(size)
    return size > LARGEST_HELD or (there is not None and size > there // SHARE)


def is_too_large(model: ir.Model) -> bool:
    """Whether a model is not to be held in memory: several are compared with one another, and all would be there.

    What is in memory already, as a torch module is, costs less by being held than by being put away.
    """
    size = weight_bytes(model)
    there = available_for(size)
    if there is not None and size > there // SHARE:
        return True
    return size > LARGEST_HELD and (there is None or _lies_in_files(model))


def _lies_in_files(model: ir.Model) -> bool:
    """Whether weights are read from a file when they are wanted."""
    return any(map(_is_read, weights(model)))


def _is_read(tensor: ir.TensorProtocol) -> bool:
    if isinstance(tensor, ir.Tensor):
        return isinstance(tensor.raw, np.ndarray) and is_mapped(tensor.raw)
    return isinstance(tensor, ir.ExternalTensor)


def fit_together(sizes: Iterable[int]) -> bool:
    """Whether parts of models with so many bytes of weights are held in memory while they are timed."""
    return sum(sizes) <= HELD_TOGETHER


class Whole(Protocol):
    """A large model that is held in memory from its first run on: who only saves it need not have the room."""

    def __call__(self, feeds: Mapping[str, Array]) -> Sequence[Any]:
        """Outputs in the graph's order."""
        ...

    def loaded(self) -> Any:
        """The program in memory; a coded error where there is no room for it."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A program that is not held in memory, for comparing and proving it."""

    def each(self, many: Sequence[Mapping[str, Array]]) -> Iterator[list[Any]]:
        """The outputs for each of several inputs, from one reading of the weights."""
        ...

    def whole(self) -> Whole:
        """The same as its user wants it."""
        ...


def outputs_for_each(
    program: Callable[[Mapping[str, Array]], Sequence[Any]], many: Sequence[Mapping[str, Array]]
) -> Iterator[Sequence[Any]]:
    """A program's outputs for each of several inputs; several are run at once where they may."""
    if isinstance(program, Streaming):
        return program.each(many)
    count = runs_at_once(program)
    return each(program, many, count, waiting=count)


def to_keep(program: Any) -> Any:
    """A program as its user gets it."""
    return program.whole() if isinstance(program, Streaming) else program


def loaded(program: Any) -> Any:
    """A program as its user gets it, in memory at once."""
    return program.whole().loaded() if isinstance(program, Streaming) else program
