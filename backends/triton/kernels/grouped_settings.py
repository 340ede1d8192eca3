"""Settings of `grouped_mlp` that are worth measuring, and what it is made for."""

from __future__ import annotations

from itertools import product

from ..widths import parts
from .hopper import PROCESSORS

ROWS = 64  # of a tile: what four warps multiply at once
THREADS = 128  # of these
BLOCKS = (64, 32)  # hidden units
STAGES = (0, 2, 3, 4, 5)  # blocks on their way; 0: all of them stay
MOST_CANDIDATES = 6
MEMORY = 227 * 1024 - 1024  # bytes of a processor's memory, less the system's
REST = 2048  # bytes: barriers, what groups of warps are told
OTHERS = 32  # registers of a thread for all else than tiles
LEAST_TURNS = 2  # tiles of each group
ALIGNED = 8  # elements: rows of what is fetched are multiples of 16 bytes


def groups(stages: int) -> int:
    """Of four warps."""
    return 2 if stages else 3


def registers(stages: int) -> int:
    """Of a thread: 65,536 for three groups, or for two and what one warp with 40 takes, which counts as four."""
    return 232 if stages else 160


def candidates(rows: int, inner: int, hidden: int, out: int) -> list[tuple[int, int]]:
    """Settings worth measuring: hidden units of a block, blocks on their way.

    Both matrices stay where they fit in a processor's memory. None where rows are too wide, or too few to be walked
    over.

    Args:
        rows: of x.
        inner: elements of a row of x.
        hidden: units.
        out: elements of a row of the result.
    """
    if any(n % ALIGNED for n in (inner, hidden, out)):
        return []
    wide, high = sum(parts(inner)), sum(parts(out))
    found = [
        (block, stages)
        for stages, block in product(STAGES, BLOCKS)
        if block < 2 * hidden
        and rows >= LEAST_TURNS * groups(stages) * ROWS * PROCESSORS
        and shared(block, stages, hidden, wide, high) <= MEMORY
        and held(block, wide, high) <= registers(stages) - OTHERS
    ]
    staying = [c for c in found if c[1] == 0]
    return (staying or sorted(found, key=lambda c: -c[0] * c[1]))[:MOST_CANDIDATES]


def held(block: int, wide: int, high: int) -> int:
    """Registers of a thread: sums and hidden units in single precision, these once more as halves, rows as halves."""
    return ROWS * (2 * high + wide + 3 * block) // (2 * THREADS)


def shared(block: int, stages: int, hidden: int, wide: int, high: int) -> int:
    """Bytes of memory: blocks of both matrices, rows and results of each group, a bias and a norm in single."""
    blocks = -(-hidden // block)
    rows = (stages or blocks) * block + groups(stages) * ROWS
    return 2 * rows * (wide + high) + 4 * blocks * block + 8 * wide + REST
