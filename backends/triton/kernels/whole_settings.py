"""Settings of `whole_product` that are worth measuring, and what it is made for."""

from __future__ import annotations

from ..widths import LEAST, parts
from .hopper import PROCESSORS, SHARED

MOST_CANDIDATES = 12
MOST_WIDE = 1024  # elements of a row
MOST_HELD = 168  # registers of a thread for both tiles and the sums
MOST_WAVES = 2  # programs of a processor, one after the other
TILES = tuple((rows, columns) for rows in (16, 32, 64) for columns in (32, 64, 128))


def takes(rows: int, n: int, k: int) -> bool:
    """Whether the kernel is made for so many rows and a matrix of this shape."""
    return bool(candidates(rows, n, k))


def candidates(rows: int, n: int, k: int) -> list[tuple[int, int, int]]:
    """Settings worth measuring: rows and columns of a tile, warps.

    Of all that keep everything in registers and need few waves, those for which a processor reads least.

    Args:
        rows: of x.
        n: columns of the result.
        k: elements of a row of x.
    """
    wide = sum(parts(k))
    found: list[tuple[int, int, int, int, int]] = []
    for tile, columns in TILES:
        if wide > MOST_WIDE or (tile > LEAST and tile >= 2 * rows) or (columns > 32 and columns >= 2 * n):
            continue
        waves = -(-(-(-rows // tile) * -(-n // columns)) // PROCESSORS)
        if waves > MOST_WAVES or 2 * wide * (tile + columns) > SHARED:
            continue
        for warps in (4, 8):
            held = (wide * (2 * tile + columns) + 2 * tile * columns) // (64 * warps)
            if held <= MOST_HELD:
                found.append((waves * (tile + columns), waves, tile, columns, warps))
    return [c[2:] for c in sorted(found)[:MOST_CANDIDATES]]
