"""Tiles that products are computed by: their sizes, and what a thread adds to its sums at each depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..expression import Shader
from ..index import Index
from ..limits import Limits
from ..types import BYTES


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
        run: products that are added up in half precision before single precision takes over their sum (see runs.py); 0:
            all sums are single. Divides the depth.
    """

    rows: int
    columns: int
    depth: int
    high: int
    wide: int
    ahead: bool = False
    slices: int = 1
    run: int = 0

    def __post_init__(self) -> None:
        if self.run and (self.slices > 1 or self.depth % self.run):
            raise ValueError(f"runs of {self.run} do not divide what a thread adds up: {self}")

    @property
    def blocks(self) -> int:
        """Of results of a workgroup."""
        return (self.rows // self.high) * (self.columns // self.wide)

    @property
    def threads(self) -> int:
        """Of a workgroup."""
        return self.blocks * self.slices

    @property
    def kind(self) -> str:
        """Of the numbers in its memory."""
        return "f16" if self.run else "f32"

    @property
    def memory(self) -> int:
        """Bytes of its memory, at most."""
        beside = 16 * self.threads if self.slices > 1 else 8 if self.run else 0
        return BYTES[self.kind] * self.depth * (self.rows + self.columns + 8) + beside

    @property
    def runs_everywhere(self) -> bool:
        """Whether every device of WebGPU allows it."""
        return self.memory <= Limits().memory and self.threads <= Limits().threads


Sums = list[list[list[str]]]  # names of a thread's sums, vectors: by four rows, row among those, four columns


def names_of(sums: Sums) -> Iterator[str]:
    """All of them."""
    return (name for block in sums for line in block for name in line)


def add_products(shader: Shader, rows: Sequence[str], columns: Sequence[str], sums: Sums, k: Index, kind: str) -> None:
    """Add the products at one depth of a piece, whose numbers are of this kind, to the sums in single precision."""
    for name, array, places in (("a{}", "ta", rows), ("b{}_", "tb", columns)):
        for i, at in enumerate(places):
            lies = f"{array}[{k}][{at}]"
            shader.line(f"let {name.format(i)} = {lies if kind == 'f32' else f'vec4<f32>({lies})'};")
    for i, block in enumerate(sums):
        for axis, line in zip("xyzw", block, strict=True):
            for j, name in enumerate(line):
                shader.line(f"{name} = fma(vec4<f32>(a{i}.{axis}), b{j}_, {name});")
