"""Sums of products over one axis: what matrix products and convolutions have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ..expression import Element, Shader, lies, packing, shape_of
from ..index import Index, Subscript, add, mul


@dataclass(frozen=True)
class Matrix:
    """An operand that lies in a buffer in even distances.

    Args:
        value: what the buffer holds.
        offset: where its first element is.
        batch: distances of the batch's axes.
        lane: distance of rows (of columns, for the second operand).
        depth: distance along the axis that is summed over.
    """

    value: ir.Value
    offset: int
    batch: tuple[int, ...]
    lane: int
    depth: int

    def in_quads(self, along: str, lanes: int, depth: int) -> bool:
        """Whether four neighbours along lanes or depth, counted from a multiple of four, lie in one vector."""
        near, far = (self.lane, self.depth) if along == "lane" else (self.depth, self.lane)
        extent = lanes if along == "lane" else depth
        whole = (self.offset, far, extent, prod(shape_of(self.value)), *self.batch)
        return near == 1 and packing(self.value) == 1 and all(number % 4 == 0 for number in whole)


@dataclass(frozen=True)
class Operand:
    """One operand as loops read it: lanes are rows of the first, columns of the second.

    Args:
        shader: where statements go.
        matrix: where it lies; None where its elements are computed.
        lanes: how many there are.
        at_lane: the subscript of a lane.
        at_depth: the subscript of a place on the axis that is summed over.
        computed: an element from batch, lane and depth.
    """

    shader: Shader
    matrix: Matrix | None
    lanes: int
    at_lane: Callable[[Index], Subscript]
    at_depth: Callable[[Index], Subscript]
    computed: Callable[[Subscript, Subscript, Subscript], str]

    def base(self, batch: Subscript) -> Index:
        """Where a batch begins."""
        if self.matrix is None:
            return 0
        found: Index = self.matrix.offset
        for i, stride in zip(batch, self.matrix.batch, strict=True):
            found = add(mul(i, stride), found)
        return self.shader.index(found, "base")

    def lane(self, i: Index) -> Subscript:
        """A lane, computed once."""
        return (i,) if self.matrix is not None else self.at_lane(i)

    def depth(self, k: Index) -> Subscript:
        """A depth, computed once."""
        return (k,) if self.matrix is not None else self.at_depth(k)

    @property
    def kind(self) -> str:
        """Of its elements as they lie: f16, or f32 for whatever is computed."""
        return "f16" if self.matrix is not None and lies(self.matrix.value, half=self.shader.half) == "f16" else "f32"

    def element(
        self, batch: Subscript, base: Index, lane: Subscript, depth: Subscript, *, as_it_lies: bool = False
    ) -> str:
        """One element, in single precision or of its own kind."""
        if self.matrix is None:
            return self.computed(batch, lane, depth)
        found = add(base, add(mul(lane[0], self.matrix.lane), mul(depth[0], self.matrix.depth)))
        return self.shader.load_at(self.matrix.value, found, as_it_lies=as_it_lies and self.kind == "f16")

    def quad(self, base: Index, lane: Index, depth: Index, *, as_it_lies: bool = False) -> str:
        """Four neighbours along the axis that lies side by side, from a multiple of four on; for what is in quads."""
        assert self.matrix is not None
        found = add(base, add(mul(lane, self.matrix.lane), mul(depth, self.matrix.depth)))
        number = found // 4 if isinstance(found, int) else f"({found} >> 2u)"
        return self.shader.quad(self.matrix.value, number, as_it_lies=as_it_lies and self.kind == "f16")


class Contraction(ABC):
    """result[batch, row, column] = Σ first[batch, row, depth]·second[batch, depth, column].

    Rows, columns and depths are numbers to whoever writes the loops; `at_…` makes a subscript of one.
    """

    e: Element
    batch: tuple[int, ...]
    rows: int
    columns: int
    depth: int

    @property
    def count(self) -> int:
        """Of results."""
        return prod(self.batch) * self.rows * self.columns

    def at_row(self, row: Index) -> Subscript:
        """A row."""
        return (row,)

    def at_column(self, column: Index) -> Subscript:
        """A column."""
        return (column,)

    def at_depth(self, depth: Index) -> Subscript:
        """A place on the axis that is summed over."""
        return (depth,)

    @abstractmethod
    def first(self, batch: Subscript, row: Subscript, depth: Subscript) -> str:
        """An element of the first operand."""

    @abstractmethod
    def second(self, batch: Subscript, column: Subscript, depth: Subscript) -> str:
        """An element of the second operand."""

    @abstractmethod
    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """The subscript of a result."""

    def finished(self, total: str, at: Subscript) -> str:
        """The result, from what the products add up to."""
        return total

    def first_matrix(self) -> Matrix | None:
        """Where the first operand lies."""
        return None

    def second_matrix(self) -> Matrix | None:
        """Where the second operand lies."""
        return None

    def operands(self) -> tuple[Operand, Operand]:
        """Both as loops read them."""
        shader = self.e.shader
        return (
            Operand(shader, self.first_matrix(), self.rows, self.at_row, self.at_depth, self.first),
            Operand(shader, self.second_matrix(), self.columns, self.at_column, self.at_depth, self.second),
        )


class Turned(Contraction):
    """The same with rows as columns and columns as rows: Cᵀ = Bᵀ·Aᵀ."""

    def __init__(self, inner: Contraction) -> None:
        self.inner, self.e, self.batch = inner, inner.e, inner.batch
        self.rows, self.columns, self.depth = inner.columns, inner.rows, inner.depth

    def operands(self) -> tuple[Operand, Operand]:
        """Of the other, in the other order."""
        first, second = self.inner.operands()
        return second, first

    def first(self, batch: Subscript, row: Subscript, depth: Subscript) -> str:
        """Of the other's second."""
        return self.inner.second(batch, row, depth)

    def second(self, batch: Subscript, column: Subscript, depth: Subscript) -> str:
        """Of the other's first."""
        return self.inner.first(batch, column, depth)

    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """As it is."""
        return self.inner.result(batch, column, row)

    def finished(self, total: str, at: Subscript) -> str:
        """As it is."""
        return self.inner.finished(total, at)
