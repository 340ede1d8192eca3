"""Settings of `whole_product` that are worth measuring, and what it is made for."""

from __future__ import annotations

from itertools import product

from ..widths import LEAST, parts
from .hopper import PROCESSORS, SHARED

MOST_CANDIDATES = 16
MOST_WIDE = 1024  # elements of a row
MOST_HELD = 168  # registers of a thread for both tiles and the sums
MOST_WAVES = 2  # programs of a processor, one after the other
ALIGNED = 8  # elements: rows of what the copying engine (TMA) brings are multiples of 16 bytes
TILES = tuple((rows, columns) for rows in (16, 32, 64) for columns in (32, 64, 128))


def takes(rows: int, n: int, k: int) -> bool:
    """Whether the kernel is made for so many rows and a matrix of this shape."""
    return bool(candidates(rows, n, k))


def candidates(rows: int, n: int, k: int, *, fetched: bool = False) -> list[tuple[int, int, int, int]]:
    """Settings worth measuring: rows and columns of a tile, warps, whether the copying engine brings the weights.

    Of all that keep everything in registers and need few waves, those for which a processor reads least.

    Args:
        rows: of x.
        n: columns of the result.
        k: elements of a row of x.
        fetched: whether there is such an engine.
    """
    wide = sum(parts(k))
    found: list[tuple[int, int, int, int, int, int]] = []
    for tile, columns in TILES:
        if wide > MOST_WIDE or (tile > LEAST and tile >= 2 * rows) or (columns > 32 and columns >= 2 * n):
            continue
        waves = -(-(-(-rows // tile) * -(-n // columns)) // PROCESSORS)
        if waves > MOST_WAVES or 2 * wide * (tile + columns) > SHARED:
            continue
        engines = (1, 0) if fetched and k % ALIGNED == 0 else (0,)
        for warps, engine in product((4, 8), engines):
            held = (wide * (2 * tile + (0 if engine else columns)) + 2 * tile * columns) // (64 * warps)
            if held <= MOST_HELD:
                found.append((waves * (tile + columns), waves, tile, columns, warps, engine))
    return [c[2:] for c in sorted(found)[:MOST_CANDIDATES]]
