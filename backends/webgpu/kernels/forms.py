"""Which loops a contraction can be written as, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TypeVar

import onnx_ir as ir

from ..expression import Element, Shader
from .contraction import Contraction, Turned
from .ranking import RUN, ranked
from .registry import Form
from .threads import Block, write_blocks
from .tiled import write_tiles
from .vector import ROWS, strips, write_strip
from .writer import Writer

Settings = TypeVar("Settings")
Reading = Callable[[Element], Contraction]

MANY = 1 << 13  # results: enough for a thread to do several
SMALL = 1 << 16  # multiplications that are not worth a workgroup's memory
ALONE = (Block(), Block(threads=128), Block(1, 4), Block(4, 1), Block(4, 4), Block(8, 4), Block(4, 4, 32), Block(2, 2))


def forms_of(node: ir.Node, reading: Reading) -> Iterator[Form]:
    """Ways to write a contraction.

    Args:
        node: the operator.
        reading: makes a contraction of it, in the kernel that is being written.
    """
    c = reading(Element(node, node.outputs[0], Shader({}, half=True), ()))
    if c.e.kind != "f32" or not c.depth:
        yield _form(reading, write_blocks, Block())
        return
    few = min(c.rows, c.columns) <= ROWS and c.depth >= 32
    small = c.count * c.depth <= SMALL or c.depth < 8
    tiles = ranked(c.rows, c.columns, c.depth, prod(c.batch))
    # Tiles up to one that every device allows, so that no device is left with something that is none.
    lead = 0 if few or small else 1 + next((i for i, tile in enumerate(tiles) if tile.runs_everywhere), 0)
    yield from (_form(reading, write_tiles, tile) for tile in tiles[:lead])
    kinds = [_blocks(c, reading), (_form(reading, write_tiles, tile) for tile in tiles[lead:])]
    if lead and all(c.e.operand(number).dtype == ir.DataType.FLOAT16 for number in (0, 1)):
        in_half = ranked(c.rows, c.columns, c.depth, prod(c.batch), RUN)
        kinds.insert(0, (_form(reading, write_tiles, tile) for tile in in_half))
    if few:
        kinds.insert(0, _strips(c, reading))
    while kinds:  # one of each in turn
        for kind in list(kinds):
            form = next(kind, None)
            if form is None:
                kinds.remove(kind)
            else:
                yield form


def _form(reading: Reading, write: Callable[[Writer, Contraction, Settings], None], settings: Settings) -> Form:
    return lambda w: write(w, reading(w.root), settings)


def _blocks(c: Contraction, reading: Reading) -> Iterator[Form]:
    large = c.count > MANY and min(c.rows, c.columns) >= 4
    for block in sorted(ALONE, key=lambda b: large and b != Block(4, 4)):
        if block.high < 2 * c.rows and block.wide < 2 * c.columns:
            yield _form(reading, write_blocks, block)


def _strips(c: Contraction, reading: Reading) -> Iterator[Form]:
    if c.columns < c.rows:
        inner = reading

        def turned(e: Element) -> Contraction:
            return Turned(inner(e))

        reading, c = turned, Turned(c)
    yield _form(reading, write_strip, None)
    for strip in strips(c.rows, c.columns, c.depth, prod(c.batch)):
        yield _form(reading, write_strip, strip)
