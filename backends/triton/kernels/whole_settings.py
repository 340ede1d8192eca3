"""Settings of `whole_product` that are worth measuring, and what it is made for."""

from __future__ import annotations

from itertools import product

from ..widths import LEAST, parts
from .hopper import PROCESSORS, SHARED

MOST_CANDIDATES = 16
MOST_WIDE = 1024  # elements of a row, or of a part of it
MOST_HELD = 168  # registers of a thread for both tiles and the sums
MOST_WAVES = 2  # programs of a processor, one after the other
ALIGNED = 8  # elements: rows of what the copying engine (TMA) brings are multiples of 16 bytes
TILES = tuple((rows, columns) for rows in (16, 32, 64) for columns in (32, 64, 128))
SPLITS, LEAST_PART = (2, 3, 4, 6, 8), 256  # of a row, and elements of a part
JOINING = 24_000  # elements that a processor reads while programs wait for one another


def takes(rows: int, n: int, k: int) -> bool:
    """Whether the kernel is made for so many rows and a matrix of this shape, rows as wholes."""
    return bool(candidates(rows, n, k))


def candidates(
    rows: int, n: int, k: int, *, fetched: bool = False, split: bool = False
) -> list[tuple[int, int, int, int, int]]:
    """Settings worth measuring: rows and columns of a tile, warps, whether the engine brings the weights, parts.

    Of all that keep everything in registers and need few waves, those for which a processor reads least, whole rows and
    parts of rows each among themselves.

    Args:
        rows: of x.
        n: columns of the result.
        k: elements of a row of x.
        fetched: whether there is a copying engine.
        split: whether a program may hold a part of its rows: not where they have to be normalised.
    """
    found: list[tuple[int, int, int, int, int, int, int]] = []
    for (tile, columns), share in product(TILES, (1, *(_splits(k) if split else ()))):
        wide = sum(parts(k // share))
        if wide > MOST_WIDE or (tile > LEAST and tile >= 2 * rows) or (columns > 32 and columns >= 2 * n):
            continue
        waves = -(-(-(-rows // tile) * -(-n // columns) * share) // PROCESSORS)
        if waves > MOST_WAVES or 2 * wide * (tile + columns) > SHARED:
            continue
        read = waves * (tile + columns) * wide + (JOINING if share > 1 else 0)
        engines = (1, 0) if fetched and k % ALIGNED == 0 else (0,)
        for warps, engine in product((4, 8), engines):
            held = (wide * (2 * tile + (0 if engine else columns)) + 2 * tile * columns) // (64 * warps)
            if held <= MOST_HELD:
                found.append((read, waves, tile, columns, warps, engine, share))
    whole, shared = ([c[2:] for c in sorted(found) if (c[-1] > 1) is more] for more in (False, True))
    half = MOST_CANDIDATES // 2  # of each kind, where there are as many
    return [*whole[: max(half, MOST_CANDIDATES - len(shared))], *shared[: max(half, MOST_CANDIDATES - len(whole))]]


def _splits(k: int) -> list[int]:
    """Into how many parts rows may be split that two tiles hold exactly."""
    even = (s for s in SPLITS if k % s == 0 and k // s >= LEAST_PART)
    return [s for s in even if sum(parts(k // s)) == k // s]
