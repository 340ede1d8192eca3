"""Products by tiles: a workgroup holds a piece of both operands in its memory, a thread a block of results.

Both pieces lie there as vectors of four lanes for each depth, so that a thread's block takes few and wide loads. The
loop over a piece's depths is written out: with constant subscripts no driver needs to check bounds, and what remains is
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ..expression import Shader
from ..index import Index, Subscript, add, div, mod, mul
from ..limits import Limits
from .contraction import Contraction, Operand
from .writer import Writer


@dataclass(frozen=True)
class Tile:
    """Sizes, all of them powers of two.

    Args:
        rows: of a workgroup's results.
        columns: of them.
        depth: of the pieces in its memory.
        high: rows of a thread's results, a multiple of four.
        wide: columns of them, a multiple of four.
        ahead: whether the next piece is loaded while this one is used.
        slices: parts of a piece's depth that are summed by threads of their own, and joined at the end: for few results
            that are long sums.
    """

    rows: int
    columns: int
    depth: int
    high: int
    wide: int
    ahead: bool = False
    slices: int = 1

    @property
    def blocks(self) -> int:
        """Of results of a workgroup."""
        return (self.rows // self.high) * (self.columns // self.wide)

    @property
    def threads(self) -> int:
        """Of a workgroup."""
        return self.blocks * self.slices

    @property
    def memory(self) -> int:
        """Bytes of its memory, at most."""
        joining = 16 * self.threads if self.slices > 1 else 0
        return 4 * self.depth * (self.rows + self.columns + 8) + joining

    @property
    def runs_everywhere(self) -> bool:
        """Whether every device of WebGPU allows it."""
        return self.memory <= Limits().memory and self.threads <= Limits().threads


Sums = list[list[list[str]]]  # names of a thread's sums, vectors: by four rows, row among those, four columns


class _Piece:
    """One operand's piece: which vectors of it a thread brings, and how.

    Args:
        w: the kernel.
        operand: what is read.
        name: of the array in the workgroup's memory.
        lanes: of the piece.
        tile: its sizes.
        whole: depth of the operand.
        batch: which of them.
        first: the first lane of the piece.
    """

    def __init__(
        self, w: Writer, operand: Operand, name: str, lanes: int, tile: Tile, whole: int, batch: Subscript, first: Index
    ) -> None:
        threads, depth = tile.threads, tile.depth
        self.shader, self.operand, self.name, self.batch = w.shader, operand, name, batch
        self.lanes, self.depth, self.whole = lanes, depth, whole
        matrix = operand.matrix
        # Neighbouring threads bring neighbours in depth, unless lanes lie side by side, as pixels of patches do.
        self.deep = name == "ta" if matrix is None else matrix.lane != 1
        self.quads = _vectors(operand, lanes, tile, whole)
        self.brought = 4 if self.quads == "depth" else 1  # vectors that one thread brings at once
        count = lanes // 4 * depth // self.brought
        self.turns, self.idle = max(count // threads, 1), count < threads
        self.pad = 1 if self.deep else 0  # vectors: what is stored down the depths would fall into the same banks
        w.shared(name, f"array<vec4<f32>, {lanes // 4 + self.pad}>", depth)
        self.base = operand.base(batch)
        deep = depth // self.brought
        self.slots: list[tuple[str, str]] = []  # lane, in vectors, and depth of what this thread brings
        self.places: list[list[Subscript]] = []
        self.held: list[str] = []
        for turn in range(self.turns):
            lane, k = self._slot(turn, threads, deep)
            lane, k = str(self.shader.index(lane, "lane")), str(self.shader.index(k, "deep"))
            self.slots.append((lane, k))
            self.places.append(self._places(first, lane))
            self.held += [self.shader.name(name) for _ in range(self.brought)]
        for held in self.held:
            self.shader.line(f"var {held} = vec4<f32>();")

    def _slot(self, turn: int, threads: int, deep: int) -> tuple[Index, Index]:
        """The vector of lanes and the depth of what a thread brings: its number counts along what lies side by side."""
        near = deep if self.deep else self.lanes // 4
        if threads >= near:
            inner, outer = mod("t", near), add(div("t", near), turn * (threads // near))
        else:  # several turns for each line
            each = near // threads
            inner, outer = add("t", turn % each * threads), turn // each
        return (outer, inner) if self.deep else (inner, outer)

    def _places(self, first: Index, lane: str) -> list[Subscript]:
        """The four lanes of a vector, as the operand wants them; those past the end become the last."""
        start = self.shader.index(add(first, mul(lane, 4)))
        if self.quads == "lane":
            inside = start if self.operand.lanes % self.lanes == 0 else f"min({start}, {self.operand.lanes - 4})"
            return [(self.shader.index(inside),)]
        found: list[Subscript] = []
        for i in range(4):
            at = (
                add(start, i)
                if self.operand.lanes % self.lanes == 0
                else f"min({add(start, i)}, {self.operand.lanes - 1})"
            )
            found.append(self.operand.lane(self.shader.index(at)))
        return found

    def bring(self, start: str) -> None:
        """Statements that load what this thread brings of the piece that begins at a depth."""
        for turn, ((_, deep), places) in enumerate(zip(self.slots, self.places, strict=True)):
            k = self.shader.index(add(start, mul(deep, self.brought)), "k")
            ragged = self.whole % self.depth != 0
            inside = f"{k} < {self.whole}" if ragged else ""
            if ragged:
                k = self.shader.index(f"min({k}, {self.whole - self.brought})", "k")
            if self.quads == "depth":
                loaded = [self.operand.quad(self.base, at[0], k) for at in places]
                loaded = [self.shader.let(text, "q") for text in loaded]
                vectors = [f"vec4<f32>({', '.join(f'{q}.{axis}' for q in loaded)})" for axis in "xyzw"]
            elif self.quads == "lane":
                vectors = [self.operand.quad(self.base, places[0][0], k)]
            else:
                at = self.operand.depth(k)
                elements = [self.operand.element(self.batch, self.base, place, at) for place in places]
                vectors = [f"vec4<f32>({', '.join(elements)})"]
            for number, text in enumerate(vectors):
                held = self.held[turn * self.brought + number]
                self.shader.line(f"{held} = select(vec4<f32>(), {text}, {inside});" if inside else f"{held} = {text};")

    def put(self) -> None:
        """Statements that store it in the workgroup's memory."""
        for turn, (lane, deep) in enumerate(self.slots):
            for number in range(self.brought):
                k = add(mul(deep, self.brought), number)
                text = f"{self.name}[{k}][{lane}] = {self.held[turn * self.brought + number]};"
                busy = self.lanes // 4 * self.depth // self.brought
                self.shader.line(f"if (t < {busy}) {{ {text} }}" if self.idle else text)


def _vectors(operand: Operand, lanes: int, tile: Tile, whole: int) -> str:
    """Along which axis an operand is read by vectors: "lane", "depth" or none."""
    matrix = operand.matrix
    if matrix is None:
        return ""
    if matrix.lane == 1:
        return "lane" if matrix.in_quads("lane", operand.lanes, whole) else ""
    enough = lanes // 4 * tile.depth // 4 >= tile.threads  # for every thread to have something to do
    return "depth" if enough and matrix.in_quads("depth", operand.lanes, whole) else ""


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
        if operand.matrix is not None and _vectors(operand, lanes, tile, c.depth)
    }
    pieces = (
        _Piece(w, first, "ta", tile.rows, tile, c.depth, batch, row),
        _Piece(w, second, "tb", tile.columns, tile, c.depth, batch, column),
    )
    rows = [shader.let(f"{ty} + {i * (tile.rows // tile.high)}", "r") for i in range(tile.high // 4)]
    columns = [shader.let(f"{tx} + {j * across}", "c") for j in range(tile.wide // 4)]
    sums = [[[f"s{i}{axis}{j}" for j in range(len(columns))] for axis in "xyzw"] for i in range(len(rows))]
    for name in _names(sums):
        shader.line(f"var {name} = vec4<f32>();")
    _loop(shader, c, tile, pieces, rows, columns, sums, slice_)
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


def _names(sums: Sums) -> Iterator[str]:
    return (name for block in sums for line in block for name in line)


def _loop(
    shader: Shader,
    c: Contraction,
    tile: Tile,
    pieces: tuple[_Piece, _Piece],
    rows: list[str],
    columns: list[str],
    sums: Sums,
    slice_: str,
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
                _multiply(shader, tile, rows, columns, sums, slice_)
        shader.line("workgroupBarrier();")
        for piece in pieces:
            piece.put()
        shader.line("workgroupBarrier();")
        if not tile.ahead:
            _multiply(shader, tile, rows, columns, sums, slice_)


def _multiply(shader: Shader, tile: Tile, rows: list[str], columns: list[str], sums: Sums, slice_: str) -> None:
    each = tile.depth // tile.slices
    start = shader.let(f"{slice_} * {each}", "from") if slice_ else 0
    for number in range(each):
        k = add(start, number)
        with shader.block(""):
            for i, r in enumerate(rows):
                shader.line(f"let a{i} = ta[{k}][{r}];")
            for j, at in enumerate(columns):
                shader.line(f"let b{j}_ = tb[{k}][{at}];")
            for i, block in enumerate(sums):
                for axis, line in zip("xyzw", block, strict=True):
                    for j, name in enumerate(line):
                        shader.line(f"{name} = fma(vec4<f32>(a{i}.{axis}), b{j}_, {name});")


def _join(w: Writer, tile: Tile, slice_: str, sums: Sums) -> None:
    """The first slice's threads add up what the others have."""
    w.shared("part", "vec4<f32>", tile.threads)
    for name in _names(sums):
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
