"""Products of few rows: what costs is reading the second operand, once, by many threads at once.

Threads of a workgroup share columns and depths: each adds up what it reads, then they join two by two in the
workgroup's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log2, prod

from ..index import Index, Subscript, add
from .contraction import Contraction, Operand
from .writer import Writer

ROWS = 8  # that are few
SUMS = 16  # of a thread: more would cost registers, and take long to compile
ROOM = 8192  # bytes of workgroup memory that threads join in at once


@dataclass(frozen=True)
class Strip:
    """How a workgroup reads the second operand; powers of two.

    Args:
        across: threads that lie along columns.
        down: threads that share a column's depth.
        each: columns of each thread, where it does not read four at once.
    """

    across: int
    down: int
    each: int = 1


class _Strip:
    """State of one kernel."""

    def __init__(self, w: Writer, c: Contraction, strip: Strip) -> None:
        self.w, self.c, self.strip, self.shader = w, c, strip, w.shader
        self.first, self.second = c.operands()
        matrix, other = self.second.matrix, self.first.matrix
        # Neighbouring threads read neighbours: down the depth where those lie side by side, else across columns.
        self.deep = matrix is not None and matrix.depth == 1 and matrix.lane != 1
        self.lane_quads = matrix is not None and matrix.in_quads("lane", c.columns, c.depth)
        self.depth_quads = matrix is not None and self.deep and matrix.in_quads("depth", c.columns, c.depth)
        self.unit = 4 if c.depth % 4 == 0 and c.depth >= 4 * strip.down else 1  # depths of one turn
        self.depth_quads &= self.unit == 4
        self.first_quads = self.unit == 4 and other is not None and other.in_quads("depth", c.rows, c.depth)
        for operand, quads in ((self.second, self.lane_quads or self.depth_quads), (self.first, self.first_quads)):
            if quads and operand.matrix is not None:
                self.shader.quads.add(operand.matrix.value)
        self.wide = 4 if self.lane_quads else strip.each
        self.kind = "vec4<f32>" if self.lane_quads else "f32"
        self.sums = [
            [self.shader.name("s") for _ in range(1 if self.lane_quads else strip.each)] for _ in range(c.rows)
        ]

    def write(self) -> None:
        """All of it."""
        w, c, strip, shader = self.w, self.c, self.strip, self.shader
        w.threads = (strip.across * strip.down, 1, 1)
        span = strip.across * self.wide
        w.workgroups = (-(-c.columns // span), 1, prod(c.batch))
        w.avoidable = strip.down > 1
        shader.line("let t = i32(local.x);")
        batch: Subscript = (0,) * len(c.batch)
        if prod(c.batch) > 1:
            batch = shader.subscript(shader.let("i32(group.z)", "batch"), c.batch)
        d, x = (strip.down, "%") if self.deep else (strip.across, "/")
        down = shader.let(f"t {x} {d}", "down")
        across = shader.let(f"t {'/' if self.deep else '%'} {d}", "across")
        start = shader.let(f"i32(group.x) * {span}", "start")
        if self.lane_quads:
            columns: list[Index] = [shader.let(f"{start} + {across} * 4", "column")]
        else:
            columns = [shader.let(f"{start} + {across} + {j * strip.across}", "column") for j in range(strip.each)]
        for name in (n for line in self.sums for n in line):
            shader.line(f"var {name} = {self.kind}();")
        self._loop(batch, down, columns)
        self._join(down)
        with shader.block(f"if ({down} == 0)"):
            self._store(batch, columns)

    def _loop(self, batch: Subscript, down: str, columns: Sequence[Index]) -> None:
        c, shader, span = self.c, self.shader, self.strip.across * self.wide
        ragged = c.columns % span != 0
        inside = [f"min({j}, {c.columns - (4 if self.lane_quads else 1)})" if ragged else j for j in columns]
        inside = [shader.index(j, "column") for j in inside]
        lanes = [(j,) if self.lane_quads else self.second.lane(j) for j in inside]
        rows = [self.first.lane(m) for m in range(c.rows)]
        bases = self.first.base(batch), self.second.base(batch)
        step = self.unit * self.strip.down
        with shader.block(f"for (var k = {down} * {self.unit}; k < {c.depth}; k += {step})"):
            seconds = [self._second(batch, bases[1], lane) for lane in lanes]
            firsts = [self._elements(self.first, batch, bases[0], row, self.first_quads) for row in rows]
            for line, xs in zip(self.sums, firsts, strict=True):
                for name, ys in zip(line, seconds, strict=True):
                    terms = " + ".join(f"{x} * {y}" for x, y in zip(xs, ys, strict=True))
                    shader.line(f"{name} += {terms};")

    def _second(self, batch: Subscript, base: Index, lane: Subscript) -> list[str]:
        if not self.lane_quads:
            return self._elements(self.second, batch, base, lane, self.depth_quads)
        return [self.shader.let(self.second.quad(base, lane[0], add("k", i)), "q") for i in range(self.unit)]

    def _elements(self, operand: Operand, batch: Subscript, base: Index, lane: Subscript, quads: bool) -> list[str]:
        """Of one turn, for one lane."""
        if quads:
            vector = self.shader.let(operand.quad(base, lane[0], "k"), "q")
            return [f"{vector}.{axis}" for axis in "xyzw"]
        depths = [operand.depth(self.shader.index(add("k", i))) for i in range(self.unit)]
        return [self.shader.let(operand.element(batch, base, lane, k)) for k in depths]

    def _join(self, down: str) -> None:
        """Sums of all threads of a column, two by two; as many results at once as there is room for."""
        strip, shader = self.strip, self.shader
        if strip.down == 1:
            return
        threads, names = strip.across * strip.down, [n for line in self.sums for n in line]
        at_once = max(1, ROOM // (threads * (16 if self.lane_quads else 4)))
        at_once = min(at_once, len(names))
        self.w.shared("part", f"array<{self.kind}, {threads}>", at_once)
        apart = 1 if self.deep else strip.across
        for begin in range(0, len(names), at_once):
            chosen = names[begin : begin + at_once]
            if begin:
                shader.line("workgroupBarrier();")
            for number, name in enumerate(chosen):
                shader.line(f"part[{number}][t] = {name};")
            step = strip.down // 2
            while step:
                shader.line("workgroupBarrier();")
                with shader.block(f"if ({down} < {step})"):
                    for number in range(len(chosen)):
                        shader.line(f"part[{number}][t] += part[{number}][t + {step * apart}];")
                step //= 2
            for number, name in enumerate(chosen):  # those at the top of their column read what they wrote themselves
                shader.line(f"{name} = part[{number}][t];")

    def _store(self, batch: Subscript, columns: Sequence[Index]) -> None:
        c, shader = self.c, self.shader
        ragged = c.columns % (self.strip.across * self.wide) != 0
        for row, line in enumerate(self.sums):
            for name, column in zip(line, columns, strict=True):
                if self.lane_quads:
                    inside = shader.block(f"if ({column} < {c.columns})" if ragged else "")
                    with inside, shader.block("for (var i = 0; i < 4; i++)"):
                        self._put(batch, row, shader.index(add(column, "i")), shader.lane(name, "i"))
                else:
                    with shader.block(f"if ({column} < {c.columns})" if ragged else ""):
                        self._put(batch, row, column, name)

    def _put(self, batch: Subscript, row: int, column: Index, text: str) -> None:
        place = self.c.result(batch, row, column)
        self.w.store(place, self.c.finished(text, place))


def write_strip(w: Writer, c: Contraction, strip: Strip | None) -> None:
    """One form; None: the likeliest."""
    _Strip(w, c, strip or _likeliest(c)).write()


WANTED = 1 << 15  # threads that keep a device reading


def _likeliest(c: Contraction) -> Strip:
    """Enough threads, and neighbours that read whole lines of memory."""
    _, second = c.operands()
    matrix, columns = second.matrix, c.columns * prod(c.batch)
    if matrix is not None and matrix.depth == 1 and matrix.lane != 1:
        down = _power(4 * WANTED / columns, 8, min(64, max(c.depth // 4, 1)))
        return Strip(max(128 // down, 1), down)
    quads = matrix is not None and matrix.in_quads("lane", c.columns, c.depth)
    down = _power(WANTED / (columns / 4 if quads else columns), 1, min(32, max(c.depth // 4, 1)))
    return Strip(min(max(128 // down, 8 if quads else 32), 256 // down), down)


def _power(wanted: float, least: int, most: int) -> int:
    """The power of two from `wanted` on, within bounds."""
    found = 1
    while (found < wanted or found < least) and found * 2 <= most:
        found *= 2
    return found


def strips(rows: int, columns: int, depth: int, batch: int) -> list[Strip]:
    """All that are worth a try, those of about the threads that are wanted first."""
    found = [
        Strip(across, down, each)
        for down, across, each in product((1, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16, 32, 64), (1, 2, 4))
        if 64 <= down * across <= 256
        and across * each <= max(2 * columns, 8)
        and 2 * down <= max(depth, 2)
        and (each == 1 or rows * each <= SUMS)
    ]

    def distance(s: Strip) -> float:
        return abs(log2(columns * batch * s.down / s.each / WANTED)) + abs(log2(s.across * s.down / 128))

    return sorted(found, key=distance)
