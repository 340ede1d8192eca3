"""y = act(norm(x)·Ŵᵀ) (⊙ norm(x)·Ĝᵀ) + r for one row x and weights of 4 or 8 bits in blocks: Ŵ = (codes − z)·s.

At two codes a byte the limit is instructions, not memory: a code has to cost 4 or fewer. So a word of codes becomes
numbers by one shift for two codes of 4 bits, one logical instruction and one multiply-add for each: in the upper half
of its mantissa a code c of 1.…₂·2⁸ says 2⁸ + 2ᵖ·c, exactly. What that adds, and the zero point, are sums of x alone:

    Σ x·(c − z)·s = s·(Σ (2⁻ᵖ·x)·(2⁸ + 2ᵖ·c) − Σ 2⁸⁻ᵖ·x − z·Σ x)    # over a block

A program holds all of x in its registers, made ready once, and takes one tile of rows after the other; each tile is on
its way while the one before is multiplied. (Where x was read again for each tile, the barriers of spreading it over
threads took half of the time: 46 % of a copy's bandwidth.)
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate

ONE = 0x43800000  # the float32 1.0·2⁸; an argument, for with two constants a logical instruction becomes two
ROWS, WARPS = (1, 2, 4, 8, 16), (2, 4, 8, 16)
RESIDENT = (8, 16)  # warps of a processor
PROCESSORS = 132
QUAD = 4  # words that a thread reads at once
FEWEST, MOST = 4, 32  # words of the weights that a thread holds
MOST_X = 64  # elements of x that a thread holds
LONGEST = 32 * WARPS[-1] * MOST_X  # weights of a row: all of x must lie in the registers of a program


def default(n: int, k: int, bits: int, block: int) -> tuple[int, int, int]:
    """Settings where nothing was measured: rows of a tile, programs, warps."""
    few = [w for w in WARPS if quads(k, bits, block) * QUAD * 32 // bits <= 32 * w * MOST_X // 2]
    return 4, min(2 * PROCESSORS, -(-n // 4)), min([*few, WARPS[-1]])


def candidates(n: int, k: int, bits: int, block: int, *, gated: bool) -> list[tuple[int, int, int]]:
    """Settings worth measuring for n rows of k weights: rows of a tile, programs, warps."""
    words = quads(k, bits, block) * QUAD
    tiles: list[tuple[int, int]] = []
    for warps in [w for w in WARPS if words * 32 // bits <= 32 * w * MOST_X][:3]:
        held = [(rows, rows * words // (32 * warps) * (2 if gated else 1)) for rows in ROWS]
        tiles += [(rows, warps) for rows, each in held if FEWEST <= each <= MOST]
    tiles = tiles or [(ROWS[-1], WARPS[0])]
    enough = [(rows, warps) for rows, warps in tiles if rows * PROCESSORS <= n] or tiles
    resident = [(rows, warps, w // warps) for rows, warps in enough for w in RESIDENT if w >= warps]
    return list(dict.fromkeys((rows, min(PROCESSORS * each, -(-n // rows)), warps) for rows, warps, each in resident))


def quads(k: int, bits: int, block: int) -> int:
    """Groups of `QUAD` words that a row of k weights takes, as a power of two, of two blocks at least."""
    return max(triton.next_power_of_2(k), 2 * block) * bits // (32 * QUAD)


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
def part(x, norm, at, K: tl.constexpr, BQ: tl.constexpr, NORM: tl.constexpr):
    """Elements of x, one of each word, and what they are multiplied by: two of (quads, words)."""
    found = tl.load(x + at, at < K, 0.0).reshape(BQ, 4).to(tl.float32)
    weighed = found
    if NORM:
        weighed *= tl.load(norm + at, at < K, 0.0).reshape(BQ, 4).to(tl.float32)
    return found, weighed


@triton.jit
def codes_at(w, rows, N: tl.constexpr, WORDS: tl.constexpr, BQ: tl.constexpr):
    """(rows, words) of a tile."""
    word = tl.arange(0, 4 * BQ)
    return tl.load(w + rows[:, None] * WORDS + word[None, :], (rows < N)[:, None] & (word < WORDS)[None, :], 0)


@triton.jit
def scales_at(scales, rows, N: tl.constexpr, G: tl.constexpr, GP: tl.constexpr):
    """(rows, blocks) of a tile."""
    block = tl.arange(0, GP)
    return tl.load(scales + rows[:, None] * G + block[None, :], (rows < N)[:, None] & (block < G)[None, :], 0.0)


@triton.jit
def zeros_at(zeros, rows, N: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, BITS: tl.constexpr, GIVEN: tl.constexpr):
    """(rows, bytes of zero points) of a tile, each row from a byte of its own; anything if none is given."""
    if not GIVEN:
        found = rows
    else:
        BYTES: tl.constexpr = (G * BITS + 7) // 8
        byte = tl.arange(0, GP * BITS // 8)
        inside = (rows < N)[:, None] & (byte < BYTES)[None, :]
        found = tl.load(zeros + rows[:, None] * BYTES + byte[None, :], inside, 0)
    return found


@triton.jit
def spread(x, BN: tl.constexpr, GP: tl.constexpr, BQ: tl.constexpr):
    """(rows, blocks) as (rows, quads): a number for each quad of a block."""
    return tl.broadcast_to(x.to(tl.float32)[:, :, None], (BN, GP, BQ // GP)).reshape(BN, BQ)


@triton.jit
def multiplied(
    codes,
    scales,
    zeros,
    xs,
    offset,
    total,
    one,
    BITS: tl.constexpr,
    GIVEN: tl.constexpr,
    BN: tl.constexpr,
    GP: tl.constexpr,
    BQ: tl.constexpr,
):
    """(rows) of the product."""
    words = codes.reshape(BN, BQ, 4)
    product = coded(words, one, 0, BITS) * xs[0][None, :, :]
    for i in tl.static_range(1, 32 // BITS):
        product += coded(words, one, i, BITS) * xs[i][None, :, :]
    if not GIVEN:
        minus = offset + total * 2.0 ** (BITS - 1)
        summed = tl.sum(product, 2) - minus[None, :]
    elif BITS == 8:
        summed = tl.sum(product, 2) - offset[None, :] - spread(zeros, BN, GP, BQ) * total[None, :]
    else:
        each = tl.join(zeros & 15, zeros >> 4).reshape(BN, GP)
        summed = tl.sum(product, 2) - offset[None, :] - spread(each, BN, GP, BQ) * total[None, :]
    return tl.sum(spread(scales, BN, GP, BQ) * summed, 1)


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
    BQ: tl.constexpr,
    PROGRAMS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: every `PROGRAMS`th tile of `BN` rows of the weights (and of the gate's), all of K.

    Args:
        x: (K), norm: (K), residual and y: (N), eps: of the norm, one: `ONE`.
        w and gate: (N, blocks, words of a block) int32, the code in the lowest bits first.
        scales: (N, blocks), zeros: (N, bytes of its zero points), as MatMulNBits has them; gate_scales, gate_zeros.
        BQ: `quads`.
        EARLY: as in `gemv`.
    """
    PER: tl.constexpr = 32 // BITS
    G: tl.constexpr = (K + BLOCK - 1) // BLOCK
    WORDS: tl.constexpr = G * BLOCK // PER
    GP: tl.constexpr = BQ * 4 * PER // BLOCK
    TILES: tl.constexpr = (N + BN - 1) // BN
    row = tl.arange(0, BN)
    rows = tl.program_id(0) * BN + row
    codes, s, z = codes_at(w, rows, N, WORDS, BQ), scales_at(scales, rows, N, G, GP), rows
    z = zeros_at(zeros, rows, N, G, GP, BITS, ZEROS)
    beside, gs, gz = codes, s, z
    if GATED:
        beside, gs = codes_at(gate, rows, N, WORDS, BQ), scales_at(gate_scales, rows, N, G, GP)
        gz = zeros_at(gate_zeros, rows, N, G, GP, BITS, ZEROS)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    at = tl.arange(0, 4 * BQ) * PER
    x0, n0 = part(x, norm, at, K, BQ, NORM)
    x1, n1 = part(x, norm, at + 1, K, BQ, NORM)
    x2, n2 = part(x, norm, at + 2, K, BQ, NORM)
    x3, n3 = part(x, norm, at + 3, K, BQ, NORM)
    squares = x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3
    if PER == 8:
        x4, n4 = part(x, norm, at + 4, K, BQ, NORM)
        x5, n5 = part(x, norm, at + 5, K, BQ, NORM)
        x6, n6 = part(x, norm, at + 6, K, BQ, NORM)
        x7, n7 = part(x, norm, at + 7, K, BQ, NORM)
        squares += x4 * x4 + x5 * x5 + x6 * x6 + x7 * x7
        total = n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7
        xs = (n0, n1 / 16, n2, n3 / 16, n4, n5 / 16, n6, n7 / 16)
        offset = n0 + n2 + n4 + n6 + (n1 + n3 + n5 + n7) / 16
    else:
        total = n0 + n1 + n2 + n3
        xs = (n0, n1, n2, n3)
        offset = total
    total, offset = tl.sum(total, 1), tl.sum(offset, 1) * 256.0
    factor = 1.0
    if NORM:
        factor = 1.0 / tl.sqrt(tl.sum(tl.sum(squares, 1), 0) / K + eps)
    for tile in range(tl.program_id(0), TILES, PROGRAMS):
        rows = tile * BN + row
        # The next tile, and what is added to this one, are on their way while this one is multiplied.
        later = rows + PROGRAMS * BN
        next_codes, next_s = codes_at(w, later, N, WORDS, BQ), scales_at(scales, later, N, G, GP)
        next_z = zeros_at(zeros, later, N, G, GP, BITS, ZEROS)
        next_beside, next_gs, next_gz = next_codes, next_s, next_z
        if GATED:
            next_beside = codes_at(gate, later, N, WORDS, BQ)
            next_gs = scales_at(gate_scales, later, N, G, GP)
            next_gz = zeros_at(gate_zeros, later, N, G, GP, BITS, ZEROS)
        added = tl.zeros((BN,), tl.float32)
        if RESIDUAL:
            added = tl.load(residual + rows, rows < N, 0.0).to(tl.float32)
        result = multiplied(codes, s, z, xs, offset, total, one, BITS, ZEROS, BN, GP, BQ) * factor
        result = activate(result, ACTIVATION)
        if GATED:
            result *= multiplied(beside, gs, gz, xs, offset, total, one, BITS, ZEROS, BN, GP, BQ) * factor
        tl.store(y + rows, (result + added).to(y.dtype.element_ty), rows < N)
        codes, s, z, beside, gs, gz = next_codes, next_s, next_z, next_beside, next_gs, next_gz
