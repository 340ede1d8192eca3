"""A thread for each result, or for a few of them, without memory of the workgroup."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..index import Index, add, mul
from .contraction import Contraction
from .writer import Writer


@dataclass(frozen=True)
class Block:
    """Results of one thread: `high` rows and `wide` columns; threads of a workgroup lie side by side along columns."""

    high: int = 1
    wide: int = 1
    threads: int = 64
    step: int = 1  # depths of one turn of the loop


def write_blocks(w: Writer, c: Contraction, block: Block) -> None:
    """Each thread sums a block of results, reading operands where they lie: caches do what others do by hand."""
    shader = w.shader
    down, across = -(-c.rows // block.high), -(-c.columns // block.wide)
    shape = (*c.batch, down, across)
    *batch, row, column = shader.subscript(w.a_thread_each(prod(shape), block.threads), shape)
    batch = tuple(batch)
    a, b = c.operands()
    rows = [shader.index(_within(add(mul(row, block.high), i), c.rows, block.high)) for i in range(block.high)]
    columns = [shader.index(_within(add(mul(column, block.wide), j), c.columns, block.wide)) for j in range(block.wide)]
    bases = a.base(batch), b.base(batch)
    row_at, column_at = [a.lane(i) for i in rows], [b.lane(j) for j in columns]
    sums = [[shader.name("s") for _ in columns] for _ in rows]
    for name in (name for line in sums for name in line):
        shader.line(f"var {name} = {c.e.kind}(0);")

    def turn(k: Index) -> None:
        firsts = [shader.let(a.element(batch, bases[0], at, a.depth(k))) for at in row_at]
        seconds = [shader.let(b.element(batch, bases[1], at, b.depth(k))) for at in column_at]
        for x, line in zip(firsts, sums, strict=True):
            for y, name in zip(seconds, line, strict=True):
                shader.line(f"{name} += {x} * {y};")

    step = block.step if c.depth % block.step == 0 else 1
    with shader.block(f"for (var k = 0; k < {c.depth}; k += {step})"):
        for i in range(step):
            turn(shader.index(add("k", i)))
    for i, line in enumerate(sums):
        for j, name in enumerate(line):
            _store(w, c, batch, (add(mul(row, block.high), i), add(mul(column, block.wide), j)), name, block)


def _within(i: Index, extent: int, step: int) -> Index:
    return i if extent % step == 0 else f"min({i}, {extent - 1})"


def _store(
    w: Writer, c: Contraction, batch: tuple[Index, ...], place: tuple[Index, Index], name: str, block: Block
) -> None:
    row, column = w.shader.index(place[0]), w.shader.index(place[1])
    checks = [f"{row} < {c.rows}"] if c.rows % block.high else []
    checks += [f"{column} < {c.columns}"] if c.columns % block.wide else []
    with w.shader.block(f"if ({' && '.join(checks)})" if checks else ""):
        at = c.result(batch, row, column)
        w.store(at, c.finished(name, at))
