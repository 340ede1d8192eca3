"""y = act(norm(x)·Ŵᵀ) (⊙ norm(x)·Ĝᵀ) + r for one row x and weights of 4 or 8 bits in blocks: Ŵ = (codes − z)·s.

At two codes a byte the limit is instructions, not memory. So codes stay the integers they are, four to a word, and x
becomes one: in each block x = σ·q, q of 16 bits (24 for float32) in two (three) limbs of 8, each exact to the last bit
of the block's largest element. One instruction multiplies four codes with a limb and sums them up, exactly:

    Σ x·(c − z)·s = s·σ·(Σ (256·q₁ + q₀)·c − z·Σ q)    # over a block

A program holds all of x in its registers, made ready once, and takes one tile of rows after the other; each tile is on
its way while the one before is multiplied. (On an H200, 8192x8192 weights of 4 bits: 15.8 µs with a multiply-add in
float32 for each code, which cost 3.7 instructions of the loop with its shift and its mask; 12.2 µs with these 2.1.)
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate
from .hopper import PROCESSORS

ROWS, WARPS = (1, 2, 4, 8, 16), (2, 4, 8, 16)
RESIDENT = (8, 16)  # warps of a processor
QUAD = 4  # words that a thread reads at once
FEWEST, MOST = 4, 32  # words of the weights that a thread holds
MOST_X = 64  # elements of x that a thread holds
SMALLEST = tl.constexpr(1.2e-38)  # of what x is measured in: the least that has all its bits
LARGEST = tl.constexpr(32512)  # of 16 bits: 127·256, so that the upper limb is a number of 8

# Four codes times four numbers of a limb, and what there is already.
DOT = tl.constexpr("dp4a.u32.s32 $0, $1, $2, $3;")
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
def part(x, norm, at, K: tl.constexpr, BQ: tl.constexpr, NORM: tl.constexpr):
    """Elements of x, one of each word, and what they are multiplied by: two of (quads, words)."""
    found = tl.load(x + at, at < K, 0.0).reshape(BQ, 4).to(tl.float32)
    weighed = found
    if NORM:
        weighed *= tl.load(norm + at, at < K, 0.0).reshape(BQ, 4).to(tl.float32)
    return found, weighed


@triton.jit
def integer(x, scale, LIMBS: tl.constexpr):
    """x·scale, a number for each quad, to the nearest integer; any for what is no number."""
    scaled = x * scale[:, None]
    if LIMBS == 2:  # in 2²³·1.1₂ + v the lowest bits are those of the integer next to v
        found = (scaled + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000
    else:
        found = tl.floor(tl.where(tl.abs(scaled) < 1e8, scaled, 0.0) + 0.5).to(tl.int32)
    return found


@triton.jit
def moved(q, FROM: tl.constexpr, TO: tl.constexpr):
    """A byte of q in another byte's place, zero beside it."""
    SHIFT: tl.constexpr = 8 * (TO - FROM)
    placed = q << SHIFT if SHIFT >= 0 else q >> -SHIFT
    return placed & (-16777216 if TO == 3 else 255 << 8 * TO)


@triton.jit
def limb(a, b, c, d, NUMBER: tl.constexpr):
    """A limb of four integers as a word: q = l + 256·m (+ 65536·h), l, m and h of −128..127.

    The lowest byte of q is l; m, which makes up for l's sign, is the next one of q + 128, and h that of q + 128 + 2¹⁵.
    """
    MORE: tl.constexpr = 0 if NUMBER == 0 else (128 if NUMBER == 1 else 32896)
    pair = moved(a + MORE, NUMBER, 0) | moved(b + MORE, NUMBER, 1)
    return pair | moved(c + MORE, NUMBER, 2) | moved(d + MORE, NUMBER, 3)


@triton.jit
def packed(a, b, c, d, LIMBS: tl.constexpr):
    """Of four integers the limbs, each a word."""
    found = (limb(a, b, c, d, 0), limb(a, b, c, d, 1))
    if LIMBS == 3:
        found = found + (limb(a, b, c, d, 2),)
    return found


@triton.jit
def dot(codes, numbers, total, ASSEMBLED: tl.constexpr):
    """Four codes of 8 bits times four numbers, and what there is already."""
    if ASSEMBLED:
        total = tl.inline_asm_elementwise(DOT, "=r,r,r,r", [codes, numbers, total], tl.int32, is_pure=True, pack=1)
    else:
        for i in tl.static_range(4):
            total += ((codes >> (8 * i)) & 255) * ((numbers << (24 - 8 * i)) >> 24)
    return total


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
    unit,
    total,
    BITS: tl.constexpr,
    GIVEN: tl.constexpr,
    ASSEMBLED: tl.constexpr,
    BN: tl.constexpr,
    GP: tl.constexpr,
    BQ: tl.constexpr,
):
    """(rows) of the product."""
    LIMBS: tl.constexpr = len(xs) * BITS // 8
    words = codes.reshape(BN, BQ, 4)
    none = tl.zeros((BN, BQ, 4), tl.int32)
    sums = ()
    for i in tl.static_range(LIMBS):
        if BITS == 8:
            sums = sums + (dot(words, xs[i][None, :, :], none, ASSEMBLED),)
        else:
            each = dot(words & 0x0F0F0F0F, xs[i][None, :, :], none, ASSEMBLED)
            sums = sums + (dot((words >> 4) & 0x0F0F0F0F, xs[LIMBS + i][None, :, :], each, ASSEMBLED),)
    product = tl.sum((sums[1] << 8) + sums[0], 2).to(tl.float32)
    if LIMBS == 3:
        product += tl.sum(sums[2], 2).to(tl.float32) * 65536.0
    if not GIVEN:
        product -= (total * 2.0 ** (BITS - 1))[None, :]
    elif BITS == 8:
        product -= spread(zeros, BN, GP, BQ) * total[None, :]
    else:
        product -= spread(tl.join(zeros & 15, zeros >> 4).reshape(BN, GP), BN, GP, BQ) * total[None, :]
    return tl.sum((spread(scales, BN, GP, BQ) * unit[None, :]) * product, 1)


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
    ASSEMBLED: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: every `PROGRAMS`th tile of `BN` rows of the weights (and of the gate's), all of K.

    Args:
        x: (K), norm: (K), residual and y: (N), eps: of the norm.
        w and gate: (N, blocks, words of a block) int32, the code in the lowest bits first.
        scales: (N, blocks), zeros: (N, bytes of its zero points), as MatMulNBits has them; gate_scales, gate_zeros.
        BQ: `quads`.
        ASSEMBLED: whether inline assembly may be used, which Triton's interpreter has not.
        EARLY: as in `gemv`.
    """
    PER: tl.constexpr = 32 // BITS
    G: tl.constexpr = (K + BLOCK - 1) // BLOCK
    WORDS: tl.constexpr = G * BLOCK // PER
    GP: tl.constexpr = BQ * 4 * PER // BLOCK
    TILES: tl.constexpr = (N + BN - 1) // BN
    row = tl.arange(0, BN)
    rows = tl.program_id(0) * BN + row
    codes, s = codes_at(w, rows, N, WORDS, BQ), scales_at(scales, rows, N, G, GP)
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
    void = (n0 + 0.0 * n1) * 0.0 + (n2 + 0.0 * n3) * 0.0  # NaN where x is not finite: integers have none
    largest = tl.maximum(tl.maximum(tl.abs(n0), tl.abs(n1)), tl.maximum(tl.abs(n2), tl.abs(n3)))
    if PER == 8:
        x4, n4 = part(x, norm, at + 4, K, BQ, NORM)
        x5, n5 = part(x, norm, at + 5, K, BQ, NORM)
        x6, n6 = part(x, norm, at + 6, K, BQ, NORM)
        x7, n7 = part(x, norm, at + 7, K, BQ, NORM)
        squares += x4 * x4 + x5 * x5 + x6 * x6 + x7 * x7
        void += (n4 + 0.0 * n5) * 0.0 + (n6 + 0.0 * n7) * 0.0
        beyond = tl.maximum(tl.maximum(tl.abs(n4), tl.abs(n5)), tl.maximum(tl.abs(n6), tl.abs(n7)))
        largest = tl.maximum(largest, beyond)
    # Every block of x in units of its own: σ, and its inverse.
    LIMBS: tl.constexpr = 3 if x.dtype.element_ty == tl.float32 else 2
    MOST: tl.constexpr = LARGEST * (256 if LIMBS == 3 else 1)
    peak = tl.max(tl.max(largest, 1).reshape(GP, BQ // GP), 1)
    peak = tl.broadcast_to(tl.maximum(peak, MOST * SMALLEST)[:, None], (GP, BQ // GP)).reshape(BQ)
    unit = peak / MOST
    units = 1.0 / unit
    unit += tl.sum(void, 1)
    n0, n1 = integer(n0, units, LIMBS), integer(n1, units, LIMBS)
    n2, n3 = integer(n2, units, LIMBS), integer(n3, units, LIMBS)
    total = n0 + n1 + n2 + n3
    if PER == 8:
        n4, n5 = integer(n4, units, LIMBS), integer(n5, units, LIMBS)
        n6, n7 = integer(n6, units, LIMBS), integer(n7, units, LIMBS)
        total += n4 + n5 + n6 + n7
        xs = packed(n0, n2, n4, n6, LIMBS) + packed(n1, n3, n5, n7, LIMBS)
    else:
        xs = packed(n0, n1, n2, n3, LIMBS)
    total = tl.sum(total, 1).to(tl.float32)
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
        result = multiplied(codes, s, z, xs, unit, total, BITS, ZEROS, ASSEMBLED, BN, GP, BQ) * factor
        result = activate(result, ACTIVATION)
        if GATED:
            result *= multiplied(beside, gs, gz, xs, unit, total, BITS, ZEROS, ASSEMBLED, BN, GP, BQ) * factor
        tl.store(y + rows, (result + added).to(y.dtype.element_ty), rows < N)
        codes, s, z, beside, gs, gz = next_codes, next_s, next_z, next_beside, next_gs, next_gz
