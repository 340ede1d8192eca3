"""Products by tiles: a workgroup holds a piece of both operands in its memory, a thread a block of results.

Both pieces lie there as vectors of four lanes for each depth, so that a thread's block takes few and wide loads. The
loop over a piece's depths is written out: with constant subscripts no driver needs to check bounds, and what remains is
arithmetic. Sums are single, or in runs of half precision (runs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from ..expression import Shader
from ..index import Index, Subscript, add, mul
from .contraction import Contraction
from .piece import Piece, vectors_of
from .runs import expect_losses, lost, multiply_again, multiply_in_runs
from .tile import Sums, Tile, add_products, names_of
from .writer import Writer


def write_tiles(w: Writer, c: Contraction, tile: Tile) -> None:
    """One form."""
    shader = w.shader
    w.threads, w.avoidable = (tile.threads, 1, 1), True
    count = prod(c.batch)
    w.workgroups = (-(-c.columns // tile.columns), -(-c.rows // tile.rows), count)
    shader.line("let t = i32(local.x);")
    batch = shader.subscript(shader.let("i32(group.z)", "batch"), c.batch) if count > 1 else (0,) * len(c.batch)
    row = shader.let(f"i32(group.y) * {tile.rows}", "row")
    column = shader.let(f"i32(group.x) * {tile.columns}", "column")
    across = tile.columns // tile.wide
    tx = shader.let(f"t % {across}", "tx")
    ty = shader.let(f"t / {across}" if tile.slices == 1 else f"(t / {across}) % {tile.rows // tile.high}", "ty")
    slice_ = shader.let(f"t / {tile.blocks}", "slice") if tile.slices > 1 else ""
    first, second = c.operands()
    shader.quads |= {
        operand.matrix.value
        for operand, lanes in ((first, tile.rows), (second, tile.columns))
        if operand.matrix is not None and vectors_of(operand, lanes, tile, c.depth)
    }
    pieces = (
        Piece(w, first, "ta", tile.rows, tile, c.depth, batch, row),
        Piece(w, second, "tb", tile.columns, tile, c.depth, batch, column),
    )
    rows = [shader.let(f"{ty} + {i * (tile.rows // tile.high)}", "r") for i in range(tile.high // 4)]
    columns = [shader.let(f"{tx} + {j * across}", "c") for j in range(tile.wide // 4)]
    sums = [[[f"s{i}{axis}{j}" for j in range(len(columns))] for axis in "xyzw"] for i in range(len(rows))]
    for name in names_of(sums):
        shader.line(f"var {name} = vec4<f32>();")
    if tile.run:
        w.halves = True
        expect_losses(w)
        _loop(shader, c, tile, pieces, lambda: multiply_in_runs(shader, tile, rows, columns, sums))
        with shader.block(f"if ({lost(shader, c.depth, sums)})"):
            for name in names_of(sums):
                shader.line(f"{name} = vec4<f32>();")
            plain = replace(tile, ahead=False)
            _loop(shader, c, plain, pieces, lambda: multiply_again(shader, tile, rows, columns, sums))
    else:
        _loop(shader, c, tile, pieces, lambda: _multiply(shader, tile, rows, columns, sums, slice_))
    if slice_:
        _join(w, tile, slice_, sums)
    with shader.block(f"if ({slice_} == 0)" if slice_ else ""):
        _store_all(w, c, tile, batch, (row, column), rows, columns, sums)


def _store_all(
    w: Writer,
    c: Contraction,
    tile: Tile,
    batch: Subscript,
    start: tuple[str, str],
    rows: list[str],
    columns: list[str],
    sums: Sums,
) -> None:
    for i, r in enumerate(rows):
        for number, line in enumerate(sums[i]):
            for name, at in zip(line, columns, strict=True):
                _store(w, c, batch, add(start[0], add(mul(r, 4), number)), add(start[1], mul(at, 4)), name, tile)


def _loop(
    shader: Shader, c: Contraction, tile: Tile, pieces: tuple[Piece, Piece], multiply: Callable[[], None]
) -> None:
    """Over pieces: brought into registers, stored, and used once everybody has stored."""
    end = c.depth + tile.depth if tile.ahead else c.depth
    last = -(-c.depth // tile.depth) * tile.depth
    with shader.block(f"for (var k = 0; k < {-(-end // tile.depth) * tile.depth}; k += {tile.depth})"):
        with shader.block(f"if (k < {last})" if tile.ahead else ""):
            for piece in pieces:
                piece.bring("k")
        if tile.ahead:
            with shader.block("if (k > 0)"):
                multiply()
        shader.line("workgroupBarrier();")
        for piece in pieces:
            piece.put()
        shader.line("workgroupBarrier();")
        if not tile.ahead:
            multiply()


def _multiply(shader: Shader, tile: Tile, rows: list[str], columns: list[str], sums: Sums, slice_: str) -> None:
    each = tile.depth // tile.slices
    start = shader.let(f"{slice_} * {each}", "from") if slice_ else 0
    for number in range(each):
        k = add(start, number)
        with shader.block(""):
            add_products(shader, rows, columns, sums, k, tile.kind)


def _join(w: Writer, tile: Tile, slice_: str, sums: Sums) -> None:
    """The first slice's threads add up what the others have."""
    w.shared("part", "vec4<f32>", tile.threads)
    for name in names_of(sums):
        w.shader.line("workgroupBarrier();")
        w.shader.line(f"part[t] = {name};")
        w.shader.line("workgroupBarrier();")
        others = " + ".join(f"part[t + {i * tile.blocks}]" for i in range(1, tile.slices))
        w.shader.line(f"if ({slice_} == 0) {{ {name} += {others}; }}")


def _store(w: Writer, c: Contraction, batch: Subscript, row: Index, column: Index, name: str, tile: Tile) -> None:
    shader = w.shader
    row = shader.index(row)
    checks = [f"{row} < {c.rows}"] if c.rows % tile.rows else []
    with shader.block(f"if ({checks[0]})" if checks else ""):
        start = shader.index(column)
        with shader.block("for (var i = 0; i < 4; i++)"):
            at = shader.index(add(start, "i"))
            with shader.block(f"if ({at} < {c.columns})" if c.columns % tile.columns else ""):
                place = c.result(batch, row, at)
                w.store(place, c.finished(shader.lane(name, "i"), place))
