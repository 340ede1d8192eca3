"""MatMulNBits: a product with weights of 4 or 8 bits in blocks, which are read as they lie, packed in words."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..expression import Element, packing, shape_of
from ..index import Index, add, div, mod, mul
from ..types import computed
from .reduction import join_in_workgroup
from .registry import Form, kernel
from .writer import Writer

GROUP = 64
FEW = 4  # rows that weights are unpacked for again; for more, `definitions.py` has them unpacked once
DOMAIN = "com.microsoft"


class Blocks:
    """The weights of a node: `bits` for each of `depth` numbers of `columns`, with a scale for each block."""

    def __init__(self, e: Element) -> None:
        self.e = e
        self.depth, self.columns = e.integer("K", 0), e.integer("N", 0)
        self.bits, self.size = e.integer("bits", 4), e.integer("block_size", 32)
        self.count = -(-self.depth // self.size)  # blocks of a column
        self.per_word = 32 // self.bits
        self.words = self.size // self.per_word  # of a block
        self.flat_scales = len(e.shape_of(2)) == 1

    def word(self, column: Index, number: Index) -> str:
        """A word of a column's weights."""
        return self.e.shader.word(self.e.operand(1), add(mul(column, self.count * self.words), number))

    def scale(self, column: Index, block: Index) -> str:
        """Of a block."""
        flat = add(mul(column, self.count), block)
        return self.e.input(2, (flat,) if self.flat_scales else (column, block))

    def zero(self, column: Index, block: Index) -> str:
        """What stands for 0 in a block: packed like weights, or a number of its own."""
        e = self.e
        if not e.has(3):
            return f"{1 << (self.bits - 1)}.0"
        flat = len(e.shape_of(3)) == 1
        if e.kind_of(3) == "f32":
            return e.input(3, (add(mul(column, self.count), block),) if flat else (column, block))
        if self.bits == 8:
            return f"f32({e.input(3, (add(mul(column, self.count), block),) if flat else (column, block))})"
        row = -(-self.count // 2)
        byte = e.input(3, (add(mul(column, row), div(block, 2)),) if flat else (column, div(block, 2)))
        return f"f32(({byte} >> (4u * u32({mod(block, 2)}))) & 15u)"

    def term(self, w: Writer, lead: tuple[Index, ...], column: Index, number: str) -> None:
        """Add to `sum` what a word of a column contributes."""
        e, shader = self.e, w.shader
        block = shader.index(div(number, self.words))
        word = shader.let(self.word(column, number), "word")
        zero, scale = shader.let(self.zero(column, block)), self.scale(column, block)
        shader.line("var part = 0.0;")
        for lane in range(self.per_word):
            k = add(mul(number, self.per_word), lane)
            x = e.input(0, (*lead, k))
            if self.depth % self.per_word:
                x = f"select(0.0, {x}, {k} < {self.depth})"
            shader.line(f"part += {x} * (f32(extractBits({word}, {lane * self.bits}u, {self.bits}u)) - {zero});")
        shader.line(f"sum += part * {scale};")


def _by_workgroups(w: Writer) -> None:
    """A workgroup for each result: every thread takes some words of its column."""
    e, shader = w.root, w.shader
    blocks = Blocks(e)
    *lead, column = shader.subscript(w.a_workgroup_each(prod(e.shape), GROUP), e.shape)
    words = -(-blocks.depth // blocks.per_word)
    shader.line("var sum = 0.0;")
    with shader.block(f"for (var k = t; k < {words}; k += {GROUP})"):
        blocks.term(w, tuple(lead), column, "k")
    total = join_in_workgroup(w, "sum", "f32", lambda a, b: f"({a} + {b})", GROUP)
    with shader.block("if (t == 0)"):
        _finish(w, (*lead, column), total)


def _by_threads(w: Writer) -> None:
    """A thread for each result."""
    e, shader = w.root, w.shader
    blocks = Blocks(e)
    *lead, column = shader.subscript(w.a_thread_each(prod(e.shape)), e.shape)
    words = -(-blocks.depth // blocks.per_word)
    shader.line("var sum = 0.0;")
    with shader.block(f"for (var k = 0; k < {words}; k++)"):
        blocks.term(w, tuple(lead), column, "k")
    _finish(w, (*lead, column), "sum")


def _finish(w: Writer, at: tuple[Index, ...], total: str) -> None:
    e = w.root
    w.store(at, f"{total} + {e.input(5, (at[-1],))}" if e.has(5) else total)


def _applies(node: ir.Node) -> bool:
    """Few rows; weights that are constants, in blocks of whole words, in the order that they were given in."""
    weights, order = node.inputs[1], node.inputs[4] if len(node.inputs) > 4 else None
    bits, size = (
        node.attributes["bits"].as_int() if "bits" in node.attributes else 4,
        node.attributes["block_size"].as_int(),
    )
    if weights is None or order is not None or bits not in (4, 8) or size * bits % 32:
        return False
    few = prod(shape_of(node.outputs[0])[:-1]) <= FEW
    return few and packing(weights) > 1 and computed(node.outputs[0].dtype) == "f32"


@kernel("MatMulNBits", domain=DOMAIN, reads_often=True, applies=_applies)
def matmul_nbits(node: ir.Node) -> list[Form]:
    """A workgroup for each of few results, a thread for each of many."""
    few = prod(shape_of(node.outputs[0])) <= 1 << 16
    return [_by_workgroups, _by_threads] if few else [_by_threads, _by_workgroups]
