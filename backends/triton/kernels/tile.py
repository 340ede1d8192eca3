"""A tile of a matrix, read."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_of(at, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FULL: tl.constexpr):
    """What lies in rows and columns that there are, zeros beyond."""
    if FULL:
        tile = tl.load(at)
    else:
        tile = tl.load(at, (row < ROWS) & (column < COLUMNS), 0.0)
    return tile
