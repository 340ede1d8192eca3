"""y = act(norm(x)·Ŵᵀ) (⊙ norm(x)·Ĝᵀ) + r for one row x and weights of 4 or 8 bits in blocks: Ŵ = (codes − z)·s.

At two codes a byte the limit is instructions, not memory: a code has to cost 4 or fewer. So a word of codes becomes
numbers by one shift for two codes of 4 bits, one logical instruction and one multiply-add for each: in the upper half
of its mantissa a code c of 1.…₂·2⁸ says 2⁸ + 2ᵖ·c, exactly. What that adds, and the zero point, are sums of x alone,
shared by all rows:

    Σ x·(c − z)·s = s·(Σ (2⁻ᵖ·x)·(2⁸ + 2ᵖ·c) − Σ 2⁸⁻ᵖ·x − z·Σ x)    # over a block
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate

ONE = 0x43800000  # the float32 1.0·2⁸; an argument, for with two constants a logical instruction becomes two
ROWS, COLUMNS, WARPS = (2, 4, 8, 16), (1024, 2048, 4096, 8192), (4, 8)
FEWEST, MOST = 8, 32  # words of the weights that a thread holds


def default(k: int, bits: int, block: int) -> tuple[int, int, int]:
    """Settings for rows of k weights where nothing was measured: rows, blocks of a tile, warps."""
    return 4, max(1, min(16384 // bits, triton.next_power_of_2(k)) // block), 4


def candidates(k: int, bits: int, block: int, *, gated: bool) -> list[tuple[int, int, int]]:
    """Settings worth measuring for rows of k weights: rows, blocks of a tile, warps."""
    widest = max(block, triton.next_power_of_2(k))
    found: list[tuple[int, int, int]] = []
    for columns in (c for c in COLUMNS if block <= c <= max(widest, COLUMNS[0])):
        for rows in ROWS:
            words = rows * columns * bits // 32 * (2 if gated else 1)
            found += [(rows, columns // block, w) for w in WARPS if FEWEST <= words // (32 * w) <= MOST]
    return found


@triton.jit
def coded(word, one, NUMBER: tl.constexpr, BITS: tl.constexpr):
    """2⁸ + 2ᵖ·c of a word's code c of this number, p = BITS·(number mod 8/BITS): a byte lies from bit 15 to bit 22."""
    PAIR: tl.constexpr = 8 // BITS
    LOWEST: tl.constexpr = 15 + BITS * (NUMBER % PAIR)
    MASK: tl.constexpr = ((1 << BITS) - 1) << LOWEST
    SHIFT: tl.constexpr = 15 - 8 * (NUMBER // PAIR)
    placed = word << SHIFT if SHIFT >= 0 else word >> -SHIFT
    return ((placed & MASK) | one).to(tl.float32, bitcast=True)


@triton.jit
def in_four(x, BG: tl.constexpr, WG: tl.constexpr):
    """(blocks, words, 4) as 4 tensors of (blocks, words)."""
    even, odd = tl.split(tl.reshape(x, (BG, WG, 2, 2)))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def in_eight(x, BG: tl.constexpr, WG: tl.constexpr):
    """(blocks, words, 8) as 8 tensors of (blocks, words)."""
    even, odd = tl.split(tl.reshape(x, (BG, WG, 2, 2, 2)))
    x04, x26 = tl.split(even)
    x15, x37 = tl.split(odd)
    x0, x4 = tl.split(x04)
    x1, x5 = tl.split(x15)
    x2, x6 = tl.split(x26)
    x3, x7 = tl.split(x37)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def zero_points(zeros, rows, blocks, inside, G: tl.constexpr, BITS: tl.constexpr, GIVEN: tl.constexpr):
    """(rows, blocks) of what stands for 0: codes, each row from a byte of its own; 2ᵇⁱᵗˢ⁻¹ if none is given."""
    if not GIVEN:
        found = tl.full(inside.shape, 2.0 ** (BITS - 1), tl.float32)
    elif BITS == 8:
        found = tl.load(zeros + rows[:, None] * G + blocks[None, :], inside, 0).to(tl.float32)
    else:
        pair = tl.load(zeros + rows[:, None] * ((G + 1) // 2) + (blocks // 2)[None, :], inside, 0)
        found = ((pair >> (blocks % 2 * 4).to(tl.uint8)[None, :]) & 15).to(tl.float32)
    return found


@triton.jit
def gemv_nbits(
    x,
    w,
    scales,
    zeros,
    gate,
    gate_scales,
    gate_zeros,
    norm,
    residual,
    y,
    eps,
    one,
    N: tl.constexpr,
    K: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    ZEROS: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BN` rows of the weights (and of the gate's), all of K, `BG` blocks at a time.

    Args:
        x: (K), norm: (K), residual and y: (N), eps: of the norm, one: `ONE`.
        w and gate: (N, blocks, words of a block) int32, the code in the lowest bits first.
        scales: (N, blocks), zeros: (N, bytes of its zero points), as MatMulNBits has them; gate_scales, gate_zeros.
        EARLY: as in `gemv`.
    """
    PER: tl.constexpr = 32 // BITS
    PAIR: tl.constexpr = 8 // BITS
    WG: tl.constexpr = BLOCK // PER
    G: tl.constexpr = (K + BLOCK - 1) // BLOCK
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    block = tl.arange(0, BG)
    words = block[:, None] * WG + tl.arange(0, WG)[None, :]
    columns = words[:, :, None] * PER + tl.arange(0, PER)[None, None, :]
    places = rows[:, None, None] * (G * WG) + words[None, :, :]
    inside = (rows < N)[:, None] & (block < G)[None, :]
    tile = tl.load(w + places, inside[:, :, None], 0)
    beside = tl.load(gate + places, inside[:, :, None], 0) if GATED else tile
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    summed = tl.zeros((BN, BG), tl.float32)
    gating = tl.zeros((BN, BG), tl.float32)
    squares = tl.zeros((BG, WG), tl.float32)
    for start in tl.static_range(0, G, BG):
        if start > 0:
            inside = (rows < N)[:, None] & (start + block < G)[None, :]
            tile = tl.load(w + places + start * WG, inside[:, :, None], 0)
            beside = tl.load(gate + places + start * WG, inside[:, :, None], 0) if GATED else tile
        at = start * BLOCK + columns
        part = tl.load(x + at, at < K, 0.0).to(tl.float32)
        if NORM:
            squares += tl.sum(part * part, 2)
            part *= tl.load(norm + at, at < K, 0.0).to(tl.float32)
        parts = in_eight(part, BG, WG) if PER == 8 else in_four(part, BG, WG)
        product = tl.zeros((BN, BG, WG), tl.float32)
        gated = tl.zeros((BN, BG, WG), tl.float32)
        offset = tl.zeros((BG, WG), tl.float32)
        total = tl.zeros((BG, WG), tl.float32)
        for i in tl.static_range(PER):
            scaled = parts[i] * 2.0 ** (-BITS * (i % PAIR))
            total += parts[i]
            offset += scaled * 256.0
            product += coded(tile, one, i, BITS) * scaled[None, :, :]
            if GATED:
                gated += coded(beside, one, i, BITS) * scaled[None, :, :]
        offsets, totals = tl.sum(offset, 1)[None, :], tl.sum(total, 1)[None, :]
        groups = rows[:, None] * G + start + block[None, :]
        s = tl.load(scales + groups, inside, 0.0).to(tl.float32)
        z = zero_points(zeros, rows, start + block, inside, G, BITS, ZEROS)
        summed += s * (tl.sum(product, 2) - offsets - z * totals)
        if GATED:
            s = tl.load(gate_scales + groups, inside, 0.0).to(tl.float32)
            z = zero_points(gate_zeros, rows, start + block, inside, G, BITS, ZEROS)
            gating += s * (tl.sum(gated, 2) - offsets - z * totals)
    result = tl.sum(summed, 1)
    factor = 1.0
    if NORM:
        factor = 1.0 / tl.sqrt(tl.sum(tl.sum(squares, 1), 0) / K + eps)
        result *= factor
    result = activate(result, ACTIVATION)
    if GATED:
        result *= tl.sum(gating, 1) * factor
    if RESIDUAL:
        result += tl.load(residual + rows, rows < N, 0.0).to(tl.float32)
    tl.store(y + rows, result.to(y.dtype.element_ty), rows < N)
