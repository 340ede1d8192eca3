"""How a method that mends a chosen program is written down: it moves contents of constants, and no operator.

    @repair(paper="Zimmer et al., PERP, 2023, arXiv:2312.15230")
    def perp(damaged):
        "γ, β, b ← argmin loss, …"
        yield {"name of an initializer": contents}

The function is called with one program, as the choice has written it, and yields better and better contents of its
constants. Each is judged as the target runs it, on samples that the repair did not look at; the best stays
(`repaired.py`). A repair is used where it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from ..facts import Array
from ..rule import family_of, statement_of
from .calibration import Sample
from .losses import LossModel

Contents = Mapping[str, Array]


@dataclass(frozen=True)
class Damaged:
    """A program that lost something, and what a repair may look at.

    Args:
        model: as it was written.
        original: what it should compute.
        samples: those to repair on, without targets.
        loss: what it is judged by.
        seconds: to take at most.
    """

    model: ir.Model
    original: Callable[[Mapping[str, Array]], Sequence[Any]]
    samples: Sequence[Sample]
    loss: LossModel
    seconds: float


@dataclass(frozen=True)
class Repair:
    """One published way to mend a program."""

    name: str
    family: str
    paper: str
    statement: str
    function: Callable[[Damaged], Iterator[Contents]]


def repair(*, paper: str) -> Callable[[Callable[[Damaged], Iterator[Contents]]], Repair]:
    """Declare a repair; its docstring's first paragraph is its statement."""

    def declare(function: Callable[[Damaged], Iterator[Contents]]) -> Repair:
        return Repair(function.__name__, family_of(function), paper, statement_of(function), function)

    return declare


def with_contents(model: ir.Model, contents: Contents) -> ir.Model:
    """The model itself, after its initializers of these names hold this."""
    for name, array in contents.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model
