"""y = (x - μ)/√(σ² + ε)·γ + β over rows, or x/√(mean(x²) + ε)·γ: a program holds whole rows in its registers.

Mean and variance are taken one after the other, as torch takes them, in single precision, and x is read once. A product
that walked over its inner dimension and normalised its rows itself was tried and is gone: on an H200 it took 8.7 µs for
197x384 to 1536 where this kernel and the product take 1.4 and 3.8, and 80 µs for 12608 rows, not 6.5 and 45. Where rows
are few, `whole_product` holds all of them, and takes 4.8.
"""

from __future__ import annotations

from math import log2

import triton
import triton.language as tl

from .early import await_ahead, let_follow
from .hopper import PROCESSORS

LONGEST = 16384  # elements of a row
ROWS, WARPS = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8)
FEWEST, MOST = 4, 64  # elements that a thread holds, as wide as the row's power of two
VECTOR = 8  # halves that a thread reads at once
STREAMED, VECTORS = 32, 4  # rows of a processor from which on threads do best with so many vectors, not with one
MOST_CANDIDATES = 15  # and the library's own


def candidates(rows: int, length: int) -> list[tuple[int, int]]:
    """Settings worth measuring: rows of a program, warps.

    Those come first that keep every processor busy, and whose threads hold what was best on an H200.

    Args:
        rows: of the whole.
        length: of a row, at most `LONGEST`.
    """
    wide, best = triton.next_power_of_2(length), VECTOR * (VECTORS if rows >= STREAMED * PROCESSORS else 1)
    found: list[tuple[float, float, float, int, int]] = []
    for many in (r for r in ROWS if r == 1 or r < 2 * rows):
        for warps in WARPS:
            held = many * wide / (32 * warps)
            if held > MOST or (held < FEWEST and (many, warps) != (1, 1)):
                continue
            idle = max(1.0, PROCESSORS * many / rows)
            found.append((idle, abs(log2(held / best)), abs(log2(warps / 2)), many, warps))
    return [(many, warps) for *_, many, warps in sorted(found)[:MOST_CANDIDATES]]


@triton.jit
def layer_norm(
    x,
    scale,
    shift,
    y,
    rows,
    eps,
    LENGTH: tl.constexpr,
    CENTRED: tl.constexpr,
    SHIFTED: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BR` rows.

    Args:
        x, y: (rows, LENGTH). scale, shift: (LENGTH).
        CENTRED: LayerNorm; else RMSNorm. SHIFTED: whether β is added.
        BC: the power of two that holds a row.
        EARLY: as `early` has it.
    """
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    column = tl.arange(0, BC)
    known = column < LENGTH
    inside = (row < rows)[:, None] & known[None, :]
    places = row[:, None] * LENGTH + column[None, :]
    await_ahead(EARLY)
    gamma = tl.load(scale + column, known, 0.0).to(tl.float32)  # asked for while the rows are on their way
    result = tl.load(x + places, inside, 0.0).to(tl.float32)
    if CENTRED:
        mean = tl.sum(result, 1) / LENGTH
        result = tl.where(known[None, :], result - mean[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(result * result, 1) / LENGTH + eps)
    result = result * inverse[:, None] * gamma[None, :]
    let_follow(EARLY)
    if SHIFTED:
        result += tl.load(shift + column, known, 0.0).to(tl.float32)[None, :]
    tl.store(y + places, result.to(y.dtype.element_ty), inside)
