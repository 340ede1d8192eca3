"""A few rows of x as `rows_nbits` multiplies them: which element meets which code is settled once for all weights.

A unit is 16 bits of weights, four codes of 4 bits or two of 8, so part i of x holds the elements that meet code i of
every unit. A step covers one block of weights, or two where a block has fewer units than the tensor cores take: then
each block has columns of its own, zero where the other's units lie. RMSNorm's scale is in, its factor is not: Σ x² of
the step stands beside Σ x. What such a scale makes of x may be more or less than x's type holds, so a column of a step
is divided by a power of two, which stands there too.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

UNIT = 16  # bits
FEWEST_UNITS = 16  # of a step: the inner dimension of the smallest tile of the tensor cores


def blocks_of(bits: int, block: int) -> int:
    """Blocks of weights that a step covers."""
    return max(1, FEWEST_UNITS * UNIT // (bits * block))


@triton.jit
def arranged_rows(
    x,
    norm,
    parts,
    sums,
    powers,
    squares,
    m,
    K: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    NORM: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: a step.

    Args:
        x: (m, K), m up to 16, norm: (K).
        parts: (steps, 16 / BITS, units, columns = BLOCKS·16), of x's type.
        sums: of parts, powers: that they were divided by, squares: of x, each (steps, columns) float32.
        EARLY: as in `gemv`.
    """
    PER: tl.constexpr = 16 // BITS
    UNITS: tl.constexpr = BLOCKS * BLOCK // PER
    COLUMNS: tl.constexpr = BLOCKS * 16
    step = tl.program_id(0)
    unit = tl.arange(0, UNITS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    row = column % 16
    mine = (unit * PER // BLOCK == column // 16) & (row < m)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    total = tl.zeros((COLUMNS,), tl.float32)
    square = tl.zeros((COLUMNS,), tl.float32)
    power = tl.full((COLUMNS,), 1.0, tl.float32)
    inverse = power
    if NORM:
        peak = tl.zeros((COLUMNS,), tl.float32)
        for i in tl.static_range(PER):
            at = step * (BLOCKS * BLOCK) + unit * PER + i
            wide = tl.load(x + row * K + at, mine & (at < K), 0.0).to(tl.float32)
            square += tl.sum(wide * wide, 0)
            peak = tl.maximum(peak, tl.max(tl.abs(_normed(wide, norm, at, K)), 0))
        exponent = tl.maximum(peak, 1e-30).to(tl.int32, bitcast=True) & 0x7F800000
        power = exponent.to(tl.float32, bitcast=True)
        inverse = (0x7F000000 - exponent).to(tl.float32, bitcast=True)
    for i in tl.static_range(PER):
        at = step * (BLOCKS * BLOCK) + unit * PER + i
        found = tl.load(x + row * K + at, mine & (at < K), 0.0)
        if NORM:
            found = (_normed(found.to(tl.float32), norm, at, K) * inverse[None, :]).to(found.dtype)
        total += tl.sum(found.to(tl.float32), 0)
        tl.store(parts + ((step * PER + i) * UNITS + unit) * COLUMNS + column, found)
    place = step * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(sums + place, total)
    tl.store(powers + place, power)
    tl.store(squares + place, square)


@triton.jit
def _normed(x, norm, at, K: tl.constexpr):
    return x * tl.load(norm + at, at < K, 0.0).to(tl.float32)
