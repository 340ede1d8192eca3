"""One operator on operands of which something is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from ..facts import Contradiction, Dim, Shape
from ..schema import attribute

Known = tuple[int | None, Shape | None]  # dtype, shape
Rule = Callable[["Call"], list[Known]]
Number = int | float | str | None  # an entry of a small tensor: a number, a dimension's name, or unknown

UNKNOWN: Known = (None, None)


class Operand(NamedTuple):
    """An input: dtype, shape, and for a vector or scalar that decides a shape, its entries as far as known."""

    dtype: int | None
    shape: Shape | None
    data: tuple[Number, ...] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """An operator with stated attributes applied to operands (None: left out); `version` is its domain's."""

    op: str
    attributes: Mapping[str, Any]
    operands: tuple[Operand | None, ...]
    outputs: int
    version: int

    def operand(self, index: int) -> Operand | None:
        """An input, None where it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def dtype(self, index: int = 0) -> int | None:
        """An input's element type."""
        found = self.operand(index)
        return None if found is None else found.dtype

    def shape(self, index: int = 0) -> Shape | None:
        """An input's dimensions."""
        found = self.operand(index)
        return None if found is None else found.shape

    def numbers(self, index: int) -> tuple[int, ...] | None:
        """The entries of an input of integers, None unless all are known."""
        data = self.entries(index)
        if data is None or not all(isinstance(d, int) for d in data):
            return None
        return tuple(int(d) for d in data if isinstance(d, int))

    def entries(self, index: int) -> tuple[Number, ...] | None:
        """The entries of an input, each a number, a name or None."""
        found = self.operand(index)
        return None if found is None else found.data

    def get(self, name: str) -> Any:
        """An attribute, ONNX's default where it is not stated."""
        return attribute(self.op, self.attributes, name)

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return self.operand(index) is not None


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front.

    Raises:
        Contradiction: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise Contradiction(f"axis {axis} of rank {rank}")
    return axis % rank


def broadcast(shapes: Iterable[Shape | None]) -> Shape | None:
    """The shape of an element-wise operator's result.

    Raises:
        Contradiction: the shapes do not broadcast.
    """
    found = list(shapes)
    if any(s is None for s in found):
        return None
    known = [s for s in found if s is not None]
    rank = max(map(len, known), default=0)
    columns = zip(*((1,) * (rank - len(s)) + s for s in known), strict=True)
    return tuple(_broadcast(column) for column in columns)


def _broadcast(column: Sequence[Dim]) -> Dim:
    numbers = {d for d in column if isinstance(d, int) and d != 1}
    if len(numbers) > 1:
        raise Contradiction(f"dimensions {sorted(numbers)} do not broadcast")
    if numbers:
        return numbers.pop()  # a name beside it can only be this number or 1
    names = {d for d in column if not isinstance(d, int)}
    if not names:
        return 1
    return names.pop() if len(names) == 1 else _larger(names)


def smaller(number: int, name: str) -> str:
    """The name of the smaller of two sizes, as torch's exporter writes it."""
    return f"Min({number}, {name})"


def _larger(names: set[str | None]) -> str | None:
    """Of s and Min(512, s), s: where they differ the smaller one is 1, or they do not broadcast."""
    for name in names:
        if all(d == name or (isinstance(d, str) and d.startswith("Min(") and d.endswith(f", {name})")) for d in names):
            return name
    return None


def agree(a: Dim, b: Dim, what: str) -> None:
    """Two dimensions that must be equal.

    Raises:
        Contradiction: they are two different numbers.
    """
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise Contradiction(f"{what}: {a} is not {b}")


def unify(a: Dim, b: Dim) -> Dim:
    """What is known of a dimension that is both; None of two different names."""
    if a == b or b is None:
        return a
    if a is None or (isinstance(b, int) and not isinstance(a, int)):
        return b
    return a if isinstance(a, int) else None


def product(dims: Iterable[Dim]) -> Dim:
    """The number of elements: a number, or a product of names as in `4*batch`; None where it cannot be said."""
    found = multiplied(dims)
    return None if found is None else named(*found)


def multiplied(dims: Iterable[Dim]) -> tuple[int, Counter[str]] | None:
    """Dimensions as one number times names, None where one is not known."""
    number, names = 1, Counter[str]()
    for found in map(factors, dims):
        if found is None:
            return None
        number, names = number * found[0], names + found[1]
    return number, names


def factors(dim: Dim) -> tuple[int, Counter[str]] | None:
    """A dimension as a number times names, None where it is not known."""
    if dim is None or isinstance(dim, int):
        return None if dim is None else (dim, Counter())
    parts = dim.split("*")
    if not all(part.isidentifier() or part.isdecimal() for part in parts):
        return 1, Counter([dim])  # a name of its own, whatever it says
    return prod(int(p) for p in parts if p.isdecimal()), Counter(p for p in parts if not p.isdecimal())


def named(number: int, names: Counter[str]) -> Dim:
    """The dimension that is a number times names, one text for one product; None where names cannot be multiplied."""
    if number == 0 or not names:
        return number
    every = sorted(names.elements())
    if number == 1 and len(every) == 1:
        return every[0]
    if not all(name.isidentifier() for name in every):
        return None
    return "*".join(every if number == 1 else [str(number), *every])


def total(dims: Iterable[Dim]) -> Dim:
    """The sum of dimensions."""
    found = list(dims)
    if len(found) == 1:
        return found[0]
    return sum(d for d in found if isinstance(d, int)) if all(isinstance(d, int) for d in found) else None


def with_dim(shape: Shape, axis: int, dim: Dim) -> Shape:
    """The shape with one dimension replaced."""
    return (*shape[:axis], dim, *shape[axis + 1 :])
