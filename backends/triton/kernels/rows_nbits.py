"""What `gemv_nbits` computes for a few rows of x: codes as exact numbers of x's type, multiplied on the tensor cores.

Four bits become a number by one shift, one logical instruction and one subtraction for two of them: in the lowest bits
of its mantissa a nibble c of 1.…₂·2ᵉ says 2ᵉ + c, and c − 8 is exact too. Nothing is interleaved or converted, and no
weight is rounded:

    Σ x·(c − z)·s = s·(Σ x·(c − 8) − (z − 8)·Σ x)    # over a block; of 8 bits 16·(c₁ − 8) + (c₀ − 8) = c − 136

The codes come as 16-bit units into the registers from which the tensor cores read them; x as `arranged_rows` left it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate
from .arranged_rows import blocks_of
from .hopper import PROCESSORS, SHARED

MOST_ROWS = 16  # of x: what the smallest tile of the tensor cores holds
OUTPUTS, WARPS, STAGES, SPLITS = (32, 64, 128), (4, 8), (2, 3, 4), (1, 2, 4, 8, 16)
MOST_CANDIDATES = 24

# Nibbles of two units, each in the lowest bits of a number of 16.
FIRST = tl.constexpr("lop3.b32 $0, $1, 0x000F000F, $2, 0xEA;")
SECOND = tl.constexpr("{ .reg .b32 t; shr.u32 t, $1, 4; lop3.b32 $0, t, 0x000F000F, $2, 0xEA; }")
THIRD = tl.constexpr("{ .reg .b32 t; shr.u32 t, $1, 8; lop3.b32 $0, t, 0x000F000F, $2, 0xEA; }")
FOURTH = tl.constexpr("{ .reg .b32 t; shr.u32 t, $1, 12; lop3.b32 $0, t, 0x000F000F, $2, 0xEA; }")


def default(bits: int, block: int) -> tuple[int, int, int, int, int]:
    """Settings where nothing was measured: see `candidates`."""
    return 64, 1, blocks_of(bits, block), 4, 3


def candidates(
    n: int, k: int, bits: int, block: int, *, size: int = 2, gated: bool = False
) -> list[tuple[int, int, int, int, int]]:
    """Settings worth measuring for n rows of k weights: rows of a tile, parts of k, blocks of a step, warps, stages.

    Those first that give every processor a few programs, without too many parts to add up; none whose stages, each with
    x (of elements of `size` bytes) as it comes and as it is read, and the codes of one matrix or of two, do not fit.
    """
    fewest = blocks_of(bits, block)
    found: list[tuple[float, tuple[int, int, int, int, int]]] = []
    for rows in (r for r in OUTPUTS if r <= max(n, OUTPUTS[0])):
        for blocks in (fewest, 2 * fewest):
            steps = -(-k // (blocks * block))
            for split in (s for s in SPLITS if s == 1 or steps >= 4 * s):
                programs = -(-n // rows) * split
                idle = max(1.0, 3 * PROCESSORS / programs) + split / 12 + 32 / rows
                stage = blocks * block * (2 * MOST_ROWS * size + (1 + gated) * rows * bits // 8)
                fitting = [s for s in STAGES if s * stage <= SHARED]
                found += [(idle, (rows, split, blocks, w, s)) for w in WARPS for s in fitting if rows >= 8 * w]
    return [candidate for _, candidate in sorted(found)[:MOST_CANDIDATES]]


@triton.jit
def scaling(
    scales,
    zeros,
    rows,
    step,
    N: tl.constexpr,
    G: tl.constexpr,
    BITS: tl.constexpr,
    BLOCKS: tl.constexpr,
    GIVEN: tl.constexpr,
):
    """Scales of a step's blocks, and what stands for 0, each row's from a byte of its own: two of (rows, blocks)."""
    block = step * BLOCKS + tl.arange(0, BLOCKS)
    inside = (rows < N)[:, None] & (block < G)[None, :]
    s = tl.load(scales + rows[:, None] * G + block[None, :], inside, 0.0)
    z = tl.full(inside.shape, 2 ** (BITS - 1), tl.uint8)
    if GIVEN and BITS == 8:
        z = tl.load(zeros + rows[:, None] * G + block[None, :], inside, 0)
    if GIVEN and BITS == 4:
        pair = tl.load(zeros + rows[:, None] * ((G + 1) // 2) + (block // 2)[None, :], inside, 0)
        z = (pair >> (block % 2 * 4).to(tl.uint8)[None, :]) & 15
    return s, z


@triton.jit
def nibble(units, magic, NUMBER: tl.constexpr, kind: tl.constexpr, ASSEMBLED: tl.constexpr):
    """The nibble of this number of each unit, less 8."""
    if kind == tl.float32:
        found = ((units >> (4 * NUMBER)) & 15).to(tl.float32) - 8.0
    elif ASSEMBLED:
        SAID: tl.constexpr = FIRST if NUMBER == 0 else (SECOND if NUMBER == 1 else (THIRD if NUMBER == 2 else FOURTH))
        placed = tl.inline_asm_elementwise(SAID, "=r,r,r", [units, magic], dtype=tl.int16, is_pure=True, pack=2)
        found = placed.to(kind, bitcast=True) - (136.0 if kind == tl.bfloat16 else 1032.0)
    else:
        found = (((units >> (4 * NUMBER)) & 15) | magic).to(kind, bitcast=True)
        found -= 136.0 if kind == tl.bfloat16 else 1032.0
    return found


@triton.jit
def exactly(numbers, x, total):
    """Numbers times x and what there is already: float32 as two numbers of tf32, in which a nibble is exact.

    x = h + (x − h), h without the lowest 13 bits: all of it but its last two bits.
    """
    if x.dtype == tl.float32:
        high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        total = tl.dot(numbers, high, total, input_precision="tf32")
        total = tl.dot(numbers, x - high, total, input_precision="tf32")
    else:
        total = tl.dot(numbers, x, total)
    return total


@triton.jit
def step_of(
    w,
    parts,
    rows,
    step,
    magic,
    N: tl.constexpr,
    ROW: tl.constexpr,
    BITS: tl.constexpr,
    UNITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ASSEMBLED: tl.constexpr,
):
    """Σ x·(c − 8) of a step, of codes of 8 bits Σ x·(c − 136): (rows, columns) float32."""
    kind: tl.constexpr = parts.dtype.element_ty
    PER: tl.constexpr = 16 // BITS
    unit = tl.arange(0, UNITS)
    at = step * UNITS + unit
    units = tl.load(w + rows[:, None] * ROW + at[None, :], (rows < N)[:, None] & (at < ROW)[None, :], 0)
    tile = parts + (step * PER * UNITS + unit[:, None]) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    low = tl.zeros((rows.shape[0], COLUMNS), tl.float32)
    high = tl.zeros((rows.shape[0], COLUMNS), tl.float32)
    for i in tl.static_range(PER):
        x = tl.load(tile + i * UNITS * COLUMNS)
        if BITS == 4:
            low = exactly(nibble(units, magic, i, kind, ASSEMBLED), x, low)
        else:
            low = exactly(nibble(units, magic, 2 * i, kind, ASSEMBLED), x, low)
            high = exactly(nibble(units, magic, 2 * i + 1, kind, ASSEMBLED), x, high)
    return low if BITS == 4 else low + 16.0 * high


@triton.jit
def by_column(x, BN: tl.constexpr, BLOCKS: tl.constexpr):
    """(rows, blocks) as (rows, columns)."""
    return tl.broadcast_to(x[:, :, None], (BN, BLOCKS, 16)).reshape(BN, BLOCKS * 16) if BLOCKS > 1 else x


@triton.jit
def scaled(found, s, z, total, power, MIDDLE: tl.constexpr, BN: tl.constexpr, BLOCKS: tl.constexpr):
    """s·(found − (z − middle)·Σ x), times what x was divided by: (rows, columns)."""
    minus = by_column(z.to(tl.float32) - MIDDLE, BN, BLOCKS) * total
    return by_column(s.to(tl.float32), BN, BLOCKS) * ((found - minus) * power)


@triton.jit
def joined(partial, place, BN: tl.constexpr, COLUMNS: tl.constexpr, SPLIT: tl.constexpr, APART: tl.constexpr):
    """What all parts stored, added in order."""
    everything = tl.arange(0, BN)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros((BN, COLUMNS), tl.float32)
    for part in range(SPLIT):
        total += tl.load(partial + (part * APART + place) * (BN * COLUMNS) + everything, cache_modifier=".cg")
    return total


@triton.jit
def rows_nbits(
    parts,
    sums,
    powers,
    squares,
    w,
    scales,
    zeros,
    gate,
    gate_scales,
    gate_zeros,
    residual,
    y,
    partial,
    arrived,
    eps,
    m,
    N: tl.constexpr,
    K: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    ZEROS: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BN: tl.constexpr,
    SPLIT: tl.constexpr,
    STAGES: tl.constexpr,
    ASSEMBLED: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BN` rows of the weights (and of the gate's), a `SPLIT`th of the steps.

    Args:
        parts: and sums, powers, squares: what `arranged_rows` wrote for m rows of x, up to 16.
        w: and gate: (N, blocks, units of a block) int16; scales, zeros, …: as in `gemv_nbits`.
        residual: and y: (m, N), eps: of the norm.
        partial: (SPLIT, tiles, BN, columns) float32, twice with a gate. arrived: (tiles), zeros, and again after.
        ASSEMBLED: whether inline assembly may be used, which Triton's interpreter has not.
        EARLY: as in `gemv`.
    """
    kind: tl.constexpr = parts.dtype.element_ty
    PER: tl.constexpr = 16 // BITS
    G: tl.constexpr = (K + BLOCK - 1) // BLOCK
    ROW: tl.constexpr = G * BLOCK // PER
    UNITS: tl.constexpr = BLOCKS * BLOCK // PER
    COLUMNS: tl.constexpr = BLOCKS * 16
    STEPS: tl.constexpr = (G + BLOCKS - 1) // BLOCKS
    SHARE: tl.constexpr = (STEPS + SPLIT - 1) // SPLIT
    TILES: tl.constexpr = (N + BN - 1) // BN
    MIDDLE: tl.constexpr = 8.0 if BITS == 4 else 136.0
    magic = tl.full((BN, UNITS), 0x4300 if kind == tl.bfloat16 else 0x6400, tl.int16)
    tile = tl.program_id(0)
    rows = tile * BN + tl.arange(0, BN)
    column = tl.arange(0, COLUMNS)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    summed = tl.zeros((BN, COLUMNS), tl.float32)
    gating = tl.zeros((BN, COLUMNS), tl.float32)
    start = tl.program_id(1) * SHARE
    s, z = scaling(scales, zeros, rows, start, N, G, BITS, BLOCKS, ZEROS)
    gs, gz = s, z
    if GATED:
        gs, gz = scaling(gate_scales, gate_zeros, rows, start, N, G, BITS, BLOCKS, ZEROS)
    for step in tl.range(start, tl.minimum(start + SHARE, STEPS), num_stages=STAGES):
        # The next step's scales are too small for asynchronous copies, and on their way as long.
        next_s, next_z = scaling(scales, zeros, rows, step + 1, N, G, BITS, BLOCKS, ZEROS)
        next_gs, next_gz = next_s, next_z
        if GATED:
            next_gs, next_gz = scaling(gate_scales, gate_zeros, rows, step + 1, N, G, BITS, BLOCKS, ZEROS)
        total = tl.load(sums + step * COLUMNS + column)[None, :]
        power = tl.load(powers + step * COLUMNS + column)[None, :]
        found = step_of(w, parts, rows, step, magic, N, ROW, BITS, UNITS, COLUMNS, ASSEMBLED)
        summed += scaled(found, s, z, total, power, MIDDLE, BN, BLOCKS)
        if GATED:
            found = step_of(gate, parts, rows, step, magic, N, ROW, BITS, UNITS, COLUMNS, ASSEMBLED)
            gating += scaled(found, gs, gz, total, power, MIDDLE, BN, BLOCKS)
        s, z, gs, gz = next_s, next_z, next_gs, next_gz
    last = True
    if SPLIT > 1:
        everything = tl.arange(0, BN)[:, None] * COLUMNS + column[None, :]
        own = (tl.program_id(1) * TILES + tile) * (BN * COLUMNS)
        tl.store(partial + own + everything, summed)
        if GATED:
            tl.store(partial + SPLIT * TILES * (BN * COLUMNS) + own + everything, gating)
        tl.debug_barrier()
        last = tl.atomic_add(arrived + tile, 1, sem="acq_rel") == SPLIT - 1
    if last:
        if SPLIT > 1:
            tl.store(arrived + tile, 0)
            summed = joined(partial, tile, BN, COLUMNS, SPLIT, TILES)
            if GATED:
                gating = joined(partial, SPLIT * TILES + tile, BN, COLUMNS, SPLIT, TILES)
        result = tl.sum(summed.reshape(BN, BLOCKS, 16), 1)
        gates = tl.sum(gating.reshape(BN, BLOCKS, 16), 1)
        mine = tl.arange(0, 16)
        if NORM:
            squared = tl.zeros((COLUMNS,), tl.float32)
            for step in range(STEPS):
                squared += tl.load(squares + step * COLUMNS + column)
            factor = (1.0 / tl.sqrt(tl.sum(squared.reshape(BLOCKS, 16), 0) / K + eps))[None, :]
            result *= factor
            gates *= factor
        result = activate(result, ACTIVATION)
        if GATED:
            result *= gates
        target = mine[None, :] * N + rows[:, None]
        written = (rows < N)[:, None] & (mine < m)[None, :]
        if RESIDUAL:
            result += tl.load(residual + target, written, 0.0).to(tl.float32)
        tl.store(y + target, result.to(y.dtype.element_ty), written)
