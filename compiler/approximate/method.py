"""How an approximate method is written down: the forms it offers of a place, and why it offers none.

    @method(kinds=("linear",), paper="Frantar et al., GPTQ, ICLR 2023, arXiv:2210.17323")
    def gptq(place, inputs):
        "W ← argmin ‖xW − xŴ‖, columns rounded one after the other, …"
        yield Form("4 bit, blocks of 32", op(...)(X, ...))

The function is called once for every place of its kinds, with what calibration saw there. It raises `Skip` with the
reason it does not apply, as a rule does. A form is an expression of the place's input in the operators that the target
runs: its error is measured by running exactly that. Several methods look at a place at the same time, where its model
is held in memory: a function keeps nothing from one call to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ..facts import Array, Fact, Floats
from ..mapped import let_go
from ..memory import available
from ..rule import Expression, Skip, Value, family_of, statement_of
from ..scratch import put_away
from .places import Place

Kind = Literal["linear", "convolution", "embedding", "weight"]


NODE, CONSTANT = 150, 35  # bytes of one in a file, its contents left out
COPIES = 4  # of second moments, that methods hold at once: damped, factorised, inverted


class _Open:
    """The host of a value that is a form's free input."""

    def fact(self, uid: int) -> Fact:
        return Fact()

    def instances(self) -> int:
        return 1


X = Value(_Open(), 0)  # the place's input, in a form


@dataclass(frozen=True)
class Form:
    """One way to compute a place.

    Args:
        setting: what of the method's choices this is, in a few words.
        term: the place's output as an expression of `X`.
        timed: what is timed in its place, on uint8 codes: neighbours that share codes pay for no conversion.
    """

    setting: str
    term: Expression
    timed: Expression | None = None

    def put_away(self) -> Form:
        """The same, its arrays out of memory where the model is too large for it."""
        known: dict[int, Expression | Array] = {}
        term = _put_away(self.term, known)
        return Form(self.setting, term, None if self.timed is None else _put_away(self.timed, known))

    def let_go(self) -> None:
        """Take its arrays out of memory, as far as they are a file's, until it is used again."""
        for array in _arrays(self.term):
            let_go(array)

    @cached_property
    def stored(self) -> int:
        """Bytes of its constants."""
        arrays = {id(a): a for a in _arrays(self.term)}.values()
        return sum(ceil(a.size * ir.DataType.from_numpy(a.dtype).bitwidth / 8) for a in arrays)

    @cached_property
    def beside(self) -> int:
        """Bytes that a file has beside its constants: nodes, their names and where they come from; an estimate."""
        nodes, arrays = {id(e) for e in _expressions(self.term)}, {id(a) for a in _arrays(self.term)}
        return NODE * len(nodes) + CONSTANT * len(arrays)

    @cached_property
    def operators(self) -> frozenset[str]:
        """The operators that it is written in."""
        return frozenset(e.op for e in _expressions(self.term))


def _put_away(term: Expression, known: dict[int, Expression | Array]) -> Expression:
    """What several read stays one and the same: `known` holds what was put away already, by identity."""

    def away(part: Expression | Value | Array | None) -> Any:
        if isinstance(part, Expression):
            return _put_away(part, known)
        if not isinstance(part, np.ndarray):
            return part
        if id(part) not in known:
            known[id(part)] = put_away(part)
        return known[id(part)]

    if id(term) not in known:
        known[id(term)] = replace(term, inputs=tuple(away(part) for part in term.inputs))
    found = known[id(term)]
    assert isinstance(found, Expression)
    return found


def _expressions(term: Expression) -> Iterator[Expression]:
    yield term
    for child in term.inputs:
        if isinstance(child, Expression):
            yield from _expressions(child)


def _arrays(term: Expression) -> Iterator[Array]:
    for expression in _expressions(term):
        yield from (child for child in expression.inputs if isinstance(child, np.ndarray))


@dataclass(frozen=True)
class Inputs:
    """What calibration saw at a place: one array for each sample.

    Args:
        arrays: the place's input.
        outputs: what the place makes of it, exactly.
    """

    arrays: tuple[Array, ...]
    outputs: tuple[Array, ...] = ()

    @cached_property
    def halves(self) -> tuple[Inputs, Inputs]:
        """Every other sample in either, without outputs; a single one's positions are cut in two.

        What is fitted to the one is judged on the other.
        """
        arrays = self.arrays
        if len(arrays) == 1:
            arrays = tuple(np.array_split(arrays[0].reshape(-1, arrays[0].shape[-1]), 2))
        return Inputs(arrays[::2]), Inputs(arrays[1::2])

    @cached_property
    def low(self) -> float:
        """The smallest value."""
        return min((float(a.min()) for a in self.arrays if a.size), default=0.0)

    @cached_property
    def high(self) -> float:
        """The largest value."""
        return max((float(a.max()) for a in self.arrays if a.size), default=0.0)

    @cached_property
    def magnitude(self) -> Floats:
        """The mean of |x| of each feature over all positions."""
        rows = [np.abs(a.reshape(-1, a.shape[-1]), dtype=np.float64) for a in self.arrays]
        return np.sum([r.sum(axis=0) for r in rows], axis=0) / max(sum(map(len, rows)), 1)

    @cached_property
    def peak(self) -> Array:
        """The largest |x| of each feature over all positions."""
        return np.max([np.abs(a.reshape(-1, a.shape[-1])).max(axis=0, initial=0) for a in self.arrays], axis=0)

    @cached_property
    def second_moment(self) -> Array:
        """Σ xxᵀ over all positions, divided by their number: [features, features], float64.

        Raises:
            Skip: there is no room for it and for what methods make of it.
        """
        width = self.arrays[0].shape[-1]
        needed, there = COPIES * 8 * width**2, available()
        if there is not None and needed > there:
            raise Skip(
                f"it needs {needed / 1e9:.1f} GB of memory for second moments, and {there / 1e9:.1f} GB are free"
            )
        total, count = np.zeros((width, width)), 0
        for array in self.arrays:
            rows = array.reshape(-1, width).astype(np.float64)
            total += rows.T @ rows
            count += len(rows)
        return total / max(count, 1)


@dataclass(frozen=True)
class Method:
    """One published way to compute a place approximately."""

    name: str
    family: str
    kinds: tuple[Kind, ...]
    paper: str
    statement: str
    function: Callable[[Place, Inputs], Iterator[Form]]

    def forms(self, place: Place, inputs: Inputs) -> list[Form]:
        """Every form it offers here.

        Raises:
            Skip: it does not apply to this place.
        """
        return [form.put_away() for form in self.function(place, inputs)]


def method(*, kinds: tuple[Kind, ...], paper: str) -> Callable[[Callable[[Place, Inputs], Iterator[Form]]], Method]:
    """Declare a method; its docstring's first paragraph is its statement."""

    def declare(function: Callable[[Place, Inputs], Iterator[Form]]) -> Method:
        return Method(function.__name__, family_of(function), kinds, paper, statement_of(function), function)

    return declare
