"""Settings of `resident_mlp` that are worth measuring, and what it is made for."""

from __future__ import annotations

from ..widths import parts
from .hopper import PROCESSORS

ROWS = 64  # of a tile: what four warps multiply at once
GROUPS = 3  # of four warps
BLOCKS = (64, 32)  # hidden units
REGISTERS = 160  # of a thread, as many as three groups may have
MOST_HELD = 120  # of them for sums, hidden units, these once more as halves, and rows
MEMORY = 227 * 1024 - 1024  # bytes of a processor's memory, less the system's
REST = 4096  # bytes: a norm's scale and shift, barriers, what groups of warps are told
LEAST_TILES = 4  # of each group: reading both matrices takes about as long as one
ALIGNED = 8  # elements: rows of what is fetched are multiples of 16 bytes


def candidates(rows: int, inner: int, hidden: int, out: int) -> list[tuple[int]]:
    """Settings worth measuring: hidden units of a block.

    None where both matrices do not fit in a processor's memory, or rows are too few to pay for reading them there.

    Args:
        rows: of x.
        inner: elements of a row of x.
        hidden: units.
        out: elements of a row of the result.
    """
    wide, high = sum(parts(inner)), sum(parts(out))
    if any(n % ALIGNED for n in (inner, hidden, out)) or rows < LEAST_TILES * GROUPS * ROWS * PROCESSORS:
        return []
    return [(b,) for b in BLOCKS if b < 2 * hidden and shared(b, hidden, wide, high) <= MEMORY and _held(b, wide, high)]


def shared(block: int, hidden: int, wide: int, high: int) -> int:
    """Bytes of memory: both matrices, each group's rows and results, the first bias in single precision."""
    units = -(-hidden // block) * block
    return 2 * (units + GROUPS * ROWS) * (wide + high) + 4 * units + REST


def _held(block: int, wide: int, high: int) -> bool:
    return ROWS * (2 * high + wide + 3 * block) // 256 <= MOST_HELD
