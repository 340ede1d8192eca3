"""What `gemv_nbits` computes for a few rows of x: codes as exact numbers of x's type, multiplied on the tensor cores.

    Σ x·(c − z)·s = s·(Σ x·c − z·Σ x)    # over a block: no weight is rounded, and one scale does for all its codes

Low and high halves of a byte are products of their own with every other element of x, so that nothing is interleaved.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate

MOST_ROWS = 16  # of x: what the smallest tile of the tensor cores holds
DEFAULT = (64, 4, 3)  # rows of the weights, warps, stages
OUTPUTS, WARPS, STAGES = (16, 32, 64, 128), (4, 8), (2, 4)


def candidates(n: int) -> list[tuple[int, int, int]]:
    """Settings worth measuring for n rows of weights: rows of a tile, warps, stages."""
    few = [rows for rows in OUTPUTS if rows <= max(n, OUTPUTS[0])]
    return [(rows, warps, stages) for rows in few for warps in WARPS for stages in STAGES if rows >= 4 * warps]


@triton.jit
def zero_point(zeros, rows, block, inside, G: tl.constexpr, BITS: tl.constexpr, GIVEN: tl.constexpr):
    """(rows, 1) of what stands for 0 in a block; see `gemv_nbits.zero_points`."""
    if not GIVEN:
        found = tl.full(inside.shape, 2.0 ** (BITS - 1), tl.float32)
    elif BITS == 8:
        found = tl.load(zeros + rows * G + block, inside, 0).to(tl.float32)
    else:
        pair = tl.load(zeros + rows * ((G + 1) // 2) + block // 2, inside, 0).to(tl.int32)
        found = ((pair >> (block % 2 * 4)) & 15).to(tl.float32)
    return found[:, None]


@triton.jit
def exactly(codes, x, total):
    """Codes times x and what there is already: each code is exact in x's type, and in tf32.

    float32 is a sum of two numbers of tf32 but for its last two bits: x = h + (x − h), h without the lowest 13.
    """
    kind: tl.constexpr = x.dtype
    numbers = codes.to(tl.float32).to(kind)
    if kind == tl.float32:
        high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        total = tl.dot(numbers, high, total, input_precision="tf32")
        total = tl.dot(numbers, x - high, total, input_precision="tf32")
    else:
        total = tl.dot(numbers, x, total)
    return total


@triton.jit
def multiplied(codes, low, high, total, BITS: tl.constexpr):
    """Codes (rows, bytes) times x: (rows, MOST_ROWS) float32."""
    if BITS == 8:
        total = exactly(codes, low, total)
    else:
        total = exactly(codes >> 4, high, exactly(codes & 15, low, total))
    return total


@triton.jit
def rows_nbits(
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
    m,
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
    EARLY: tl.constexpr,
):
    """One program: `BN` rows of the weights (and of the gate's), all of K, a block at a time.

    Args:
        x: (m, K), m up to 16, norm: (K), residual and y: (m, N), eps: of the norm.
        w and gate: (N, blocks, bytes of a block) uint8; scales, zeros, …: as in `gemv_nbits`.
        EARLY: as in `gemv`.
    """
    ROWS: tl.constexpr = 16
    PAIR: tl.constexpr = 8 // BITS
    BYTES: tl.constexpr = BLOCK // PAIR
    G: tl.constexpr = (K + BLOCK - 1) // BLOCK
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = rows < N
    mine = tl.arange(0, ROWS)
    byte = tl.arange(0, BYTES)
    places = rows[:, None] * (G * BYTES) + byte[None, :]
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    summed = tl.zeros((BN, ROWS), tl.float32)
    gating = tl.zeros((BN, ROWS), tl.float32)
    squares = tl.zeros((ROWS,), tl.float32)
    nothing = tl.zeros((BN, ROWS), tl.float32)
    for block in range(0, G):
        codes = tl.load(w + places + block * BYTES, inside[:, None], 0)
        at = block * BLOCK + byte * PAIR
        there = (at < K)[:, None] & (mine < m)[None, :]
        low = tl.load(x + mine[None, :] * K + at[:, None], there, 0.0)
        high = low
        if BITS == 4:
            also = (at + 1 < K)[:, None] & (mine < m)[None, :]
            high = tl.load(x + mine[None, :] * K + at[:, None] + 1, also, 0.0)
        if NORM:
            squares += tl.sum(low.to(tl.float32) * low.to(tl.float32), 0)
            low = (low.to(tl.float32) * tl.load(norm + at, at < K, 0.0).to(tl.float32)[:, None]).to(x.dtype.element_ty)
            if BITS == 4:
                squares += tl.sum(high.to(tl.float32) * high.to(tl.float32), 0)
                beside = tl.load(norm + at + 1, at + 1 < K, 0.0).to(tl.float32)[:, None]
                high = (high.to(tl.float32) * beside).to(x.dtype.element_ty)
        total = tl.sum(low.to(tl.float32), 0)
        if BITS == 4:
            total += tl.sum(high.to(tl.float32), 0)
        s = tl.load(scales + rows * G + block, inside, 0.0).to(tl.float32)[:, None]
        z = zero_point(zeros, rows, block, inside, G, BITS, ZEROS)
        summed += s * (multiplied(codes, low, high, nothing, BITS) - z * total[None, :])
        if GATED:
            codes = tl.load(gate + places + block * BYTES, inside[:, None], 0)
            s = tl.load(gate_scales + rows * G + block, inside, 0.0).to(tl.float32)[:, None]
            z = zero_point(gate_zeros, rows, block, inside, G, BITS, ZEROS)
            gating += s * (multiplied(codes, low, high, nothing, BITS) - z * total[None, :])
    result = summed
    if NORM:
        factor = (1.0 / tl.sqrt(squares / K + eps))[None, :]
        result *= factor
        gating *= factor
    result = activate(result, ACTIVATION)
    if GATED:
        result *= gating
    target = mine[None, :] * N + rows[:, None]
    written = inside[:, None] & (mine < m)[None, :]
    if RESIDUAL:
        result += tl.load(residual + target, written, 0.0).to(tl.float32)
    tl.store(y + target, result.to(y.dtype.element_ty), written)
