"""Matrix products: MatMul and Gemm, with whatever precedes and follows them element by element."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..expression import Element
from ..index import Index, Subscript, broadcast
from .registry import Form, kernel
from .writer import Writer


class Product:
    """The operands of a product as functions of batch, row, column and depth."""

    def __init__(self, e: Element) -> None:
        self.e = e
        a, b = e.shape_of(0), e.shape_of(1)
        self.gemm = e.node.op_type == "Gemm"
        self.first_turned = self.gemm and bool(e.integer("transA", 0))
        self.second_turned = self.gemm and bool(e.integer("transB", 0))
        self.row_less, self.column_less = len(a) == 1, len(b) == 1
        self.depth = a[0] if self.first_turned or self.row_less else a[-1]
        self.rows = 1 if self.row_less else a[1] if self.first_turned else a[-2]
        self.columns = 1 if self.column_less else b[0] if self.second_turned else b[-1]
        self.batch = e.shape[: len(e.shape) - (not self.row_less) - (not self.column_less)]

    def first(self, batch: Subscript, row: Index, depth: Index) -> str:
        """An element of the first operand."""
        shape = self.e.shape_of(0)
        if self.row_less:
            return self.e.input(0, (depth,))
        inner = (depth, row) if self.first_turned else (row, depth)
        return self.e.input(0, (*broadcast(batch, shape[:-2]), *inner))

    def second(self, batch: Subscript, depth: Index, column: Index) -> str:
        """An element of the second operand."""
        shape = self.e.shape_of(1)
        if self.column_less:
            return self.e.input(1, (depth,))
        inner = (column, depth) if self.second_turned else (depth, column)
        return self.e.input(1, (*broadcast(batch, shape[:-2]), *inner))

    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """The subscript of a result."""
        inner = (*(() if self.row_less else (row,)), *(() if self.column_less else (column,)))
        return (*batch, *inner)

    def finished(self, total: str, at: Subscript) -> str:
        """alpha·total + beta·c."""
        if not self.gemm:
            return total
        e = self.e
        alpha, beta = e.number("alpha", 1.0), e.number("beta", 1.0)
        text = total if alpha == 1.0 else f"{e.literal(alpha)} * {total}"
        if not e.has(2) or beta == 0.0:
            return text
        c = e.input(2, broadcast(at, e.shape_of(2)))
        return f"{text} + {c}" if beta == 1.0 else f"{text} + {e.literal(beta)} * {c}"


def _by_threads(w: Writer) -> None:
    """A thread for each result."""
    product, shader = Product(w.root), w.shader
    shape = (*product.batch, product.rows, product.columns)
    *batch, row, column = shader.subscript(w.a_thread_each(prod(shape)), shape)
    kind = w.root.kind
    shader.line(f"var sum = {kind}(0);")
    with shader.block(f"for (var k = 0; k < {product.depth}; k++)"):
        a, b = product.first(tuple(batch), row, "k"), product.second(tuple(batch), "k", column)
        shader.line(f"sum += {a} * {b};")
    at = product.result(tuple(batch), row, column)
    w.store(at, product.finished("sum", at))


@kernel("MatMul", "Gemm", reads_often=True)
def product(node: ir.Node) -> list[Form]:
    """Rows times columns."""
    return [_by_threads]
