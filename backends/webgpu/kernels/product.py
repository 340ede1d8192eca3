"""Matrix products: MatMul and Gemm, with whatever precedes and follows them element by element."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import prod

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Index, Subscript, broadcast, unflatten
from .contraction import Contraction, Matrix
from .forms import forms_of
from .registry import Form, kernel
from .view import view_of


class Product(Contraction):
    """Rows times columns. Batches that meet the same second operand are rows of one matrix."""

    def __init__(self, e: Element) -> None:
        self.e = e
        a, b = e.shape_of(0), e.shape_of(1)
        gemm = e.node.op_type == "Gemm"
        self.first_turned = gemm and bool(e.integer("transA", 0))
        self.second_turned = gemm and bool(e.integer("transB", 0))
        self.row_less, self.column_less = len(a) == 1, len(b) == 1
        self.depth = a[0] if self.first_turned or self.row_less else a[-1]
        rows = 1 if self.row_less else a[1] if self.first_turned else a[-2]
        self.columns = 1 if self.column_less else b[0] if self.second_turned else b[-1]
        self.batch = e.shape[: len(e.shape) - (not self.row_less) - (not self.column_less)]
        same = len(a) > 2 and len(b) <= len(a) and all(size == 1 for size in b[:-2])
        self.across = (*self.batch, rows) if same else (rows,)  # axes whose subscripts make a row
        self.rows = prod(self.across)
        self.batch = () if same else self.batch

    def at_row(self, row: Index) -> Subscript:
        """Batches in front, where they are rows."""
        return self.e.shader.subscript(row, self.across) if len(self.across) > 1 else (row,)

    def first(self, batch: Subscript, row: Subscript, depth: Subscript) -> str:
        """An element of the first operand."""
        shape = self.e.shape_of(0)
        if self.row_less:
            return self.e.input(0, depth)
        if len(row) > 1:
            return self.e.input(0, (*row, *depth))
        inner = (*depth, *row) if self.first_turned else (*row, *depth)
        return self.e.input(0, (*broadcast(batch, shape[:-2]), *inner))

    def second(self, batch: Subscript, column: Subscript, depth: Subscript) -> str:
        """An element of the second operand."""
        shape = self.e.shape_of(1)
        if self.column_less:
            return self.e.input(1, depth)
        inner = (*column, *depth) if self.second_turned else (*depth, *column)
        lead = broadcast(batch, shape[:-2]) if batch else (0,) * (len(shape) - 2)
        return self.e.input(1, (*lead, *inner))

    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """The subscript of a result."""
        rows = unflatten(row, self.across) if len(self.across) > 1 else (row,)
        found = (*batch, *(() if self.row_less else rows), *(() if self.column_less else (column,)))
        at = tuple(self.e.shader.index(i) for i in found)
        if len(self.across) > 1 and not self.column_less:
            self.e.shader.say(at, self.e.shape, self.e.shader.position((row, column), (self.rows, self.columns)))
        return at

    def finished(self, total: str, at: Subscript) -> str:
        """alpha·total + beta·c."""
        e = self.e
        if e.node.op_type != "Gemm":
            return total
        alpha, beta = e.number("alpha", 1.0), e.number("beta", 1.0)
        text = total if alpha == 1.0 else f"{e.literal(alpha)} * {total}"
        if not e.has(2) or beta == 0.0:
            return text
        c = e.input(2, broadcast(at, e.shape_of(2)))
        return f"{text} + {c}" if beta == 1.0 else f"{text} + {e.literal(beta)} * {c}"

    def first_matrix(self) -> Matrix | None:
        """Where the first operand lies."""
        view = view_of(self.e.operand(0), self.e.shader.inlined)
        if view is None:
            return None
        *batch, row, depth = (0, *view.strides) if self.row_less else view.strides
        if self.first_turned:
            row, depth = depth, row
        shape = self.e.shape_of(0)
        if len(self.across) > 1:
            sizes, strides = shape[:-1], view.strides[:-1]
            steps = [(size, step) for size, step in zip(sizes, strides, strict=True) if size > 1]
            even = all(a[1] == b[1] * b[0] for a, b in pairwise(steps))
            return Matrix(view.value, view.offset, (), steps[-1][1] if steps else 0, depth) if even else None
        return Matrix(view.value, view.offset, _spread(self.batch, shape[:-2], batch), row, depth)

    def second_matrix(self) -> Matrix | None:
        """Where the second operand lies."""
        view = view_of(self.e.operand(1), self.e.shader.inlined)
        if view is None:
            return None
        *batch, depth, column = (*view.strides, 0) if self.column_less else view.strides
        if self.second_turned:
            depth, column = column, depth
        return Matrix(view.value, view.offset, _spread(self.batch, self.e.shape_of(1)[:-2], batch), column, depth)


def _spread(batch: tuple[int, ...], shape: tuple[int, ...], strides: list[int]) -> tuple[int, ...]:
    """Distances along the result's batch, of an operand that may have fewer axes or be broadcast."""
    found = [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)][: len(batch)]
    return (0,) * (len(batch) - len(found)) + tuple(found)


def _is_known(node: ir.Node) -> bool:
    return all(v is None or len(shape_of(v)) > 0 for v in node.inputs[:2])


@kernel("MatMul", "Gemm", reads_often=True, applies=_is_known)
def product(node: ir.Node) -> Iterable[Form]:
    """Rows times columns."""
    return forms_of(node, Product)
