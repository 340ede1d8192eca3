"""One operand's piece of a tile: what each thread brings of it, and where that lies in the workgroup's memory."""

from __future__ import annotations

from ..index import Index, Subscript, add, div, mod, mul
from .contraction import Operand
from .tile import Tile
from .writer import Writer


class Piece:
    """One operand's piece: which vectors of it a thread brings, and how.

    They are held as they lie in the buffer until they are stored: whatever is done to them waits for them to arrive,
    and while they are on their way the piece before them is used.

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
        self.quads = vectors_of(operand, lanes, tile, whole)
        self.brought = 4 if self.quads == "depth" else 1  # vectors that one thread brings at once
        count = lanes // 4 * depth // self.brought
        self.turns, self.idle = max(count // threads, 1), count < threads
        self.kind, self.held_kind = tile.kind, operand.kind
        self.pad = 1 if self.deep else 0  # vectors: what is stored down the depths would fall into the same banks
        w.shared(name, f"array<vec4<{self.kind}>, {lanes // 4 + self.pad}>", depth)
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
            self.shader.line(f"var {held} = vec4<{self.held_kind}>();")

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
                vectors = [self.operand.quad(self.base, at[0], k, as_it_lies=True) for at in places]
            elif self.quads == "lane":
                vectors = [self.operand.quad(self.base, places[0][0], k, as_it_lies=True)]
            else:
                at = self.operand.depth(k)
                elements = [self.operand.element(self.batch, self.base, place, at, as_it_lies=True) for place in places]
                vectors = [f"vec4<{self.held_kind}>({', '.join(elements)})"]
            for number, text in enumerate(vectors):
                held = self.held[turn * self.brought + number]
                text = f"select(vec4<{self.held_kind}>(), {text}, {inside})" if inside else text
                self.shader.line(f"{held} = {text};")

    def put(self) -> None:
        """Statements that store it in the workgroup's memory."""
        for turn, (lane, deep) in enumerate(self.slots):
            held = self.held[turn * self.brought :][: self.brought]
            for number, vector in enumerate(self._across(held)):
                k = add(mul(deep, self.brought), number)
                vector = vector if self.kind == self.held_kind else f"vec4<{self.kind}>({vector})"
                text = f"{self.name}[{k}][{lane}] = {vector};"
                busy = self.lanes // 4 * self.depth // self.brought
                self.shader.line(f"if (t < {busy}) {{ {text} }}" if self.idle else text)

    def _across(self, held: list[str]) -> list[str]:
        """Vectors of lanes, from what was brought."""
        if self.quads != "depth":
            return held
        return [f"vec4<{self.held_kind}>({', '.join(f'{v}.{axis}' for v in held)})" for axis in "xyzw"]


def vectors_of(operand: Operand, lanes: int, tile: Tile, whole: int) -> str:
    """Along which axis an operand is read by vectors: "lane", "depth" or none."""
    matrix = operand.matrix
    if matrix is None:
        return ""
    if matrix.lane == 1:
        return "lane" if matrix.in_quads("lane", operand.lanes, whole) else ""
    enough = lanes // 4 * tile.depth // 4 >= tile.threads  # for every thread to have something to do
    return "depth" if enough and matrix.in_quads("depth", operand.lanes, whole) else ""
