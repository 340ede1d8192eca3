"""y = after(act(norm(x)·Wᵀ + b) + r) for few rows: a program asks for all of its operands at once and multiplies once.

Where a product's rows are few, it is done in microseconds, and what those are spent on is waiting: for the kernel ahead
to end, for weights, for rows, for the next step of a loop. Here a program holds whole rows of x and of W: its weights,
which no kernel ahead computes, are asked for before that one has ended (compute capability 9.0), there is no loop, and
LayerNorm of the rows needs no pass of its own, as they lie in registers. Each program of the same rows takes their
moments again; that costs less than a kernel for them. The copying engine (TMA) may bring the weights: they then take no
registers, and no thread computes where they lie (on an H100 197 rows of 384 with 1,152 columns take 3.2 microseconds
instead of 3.7), though each tile is waited for before the next is asked for, as Triton has it. Rows too long for that
are split: a program holds a part of them, and whoever comes last adds up the parts (on an H200 197 rows of 1,536 with
384 columns take 4.7 microseconds instead of cuBLASLt's 5.6, and the kernels around it may start early).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .early import await_ahead, let_follow
from .joined import joined
from .tile import tile_of


@triton.jit
def whole_product(
    x,
    w,
    w_rest,
    b,
    gamma,
    beta,
    r,
    y,
    partial,
    arrived,
    eps,
    ROWS: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    K0: tl.constexpr,
    K1: tl.constexpr,
    NORMED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    AFTER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    SPLIT: tl.constexpr,
    FETCHED: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BM` rows and `BN` columns of the result, a `SPLIT`th of the inner dimension.

    Args:
        x: (ROWS, K), each part in tiles of K0 and K1 columns, w: (N, K), b: (N). r, y: (ROWS, N).
        partial, arrived: as `joined` has them, where rows are split: then the two tiles hold a part exactly.
        w_rest: where FETCHED, w and this are descriptors of w, in blocks of BN rows and K0 or K1 columns.
        gamma, beta: (K), scale and shift of LayerNorm, eps: of its variance. NORMED: whether x goes through it first.
        EARLY: as `early` has it; what it waits for comes after the constants.
    """
    TILES: tl.constexpr = (ROWS + BM - 1) // BM
    program = tl.program_id(0)
    row = program % TILES * BM + tl.arange(0, BM)
    first = program // TILES * BN
    column = first + tl.arange(0, BN)
    begin = 0
    if SPLIT > 1:
        begin = tl.program_id(1) * (K // SPLIT)
    k0 = begin + tl.arange(0, K0)
    k1 = begin + K0 + tl.arange(0, K1 if K1 > 0 else 1)
    FULL_W: tl.constexpr = N % BN == 0 and K0 + K1 == K // SPLIT
    FULL_X: tl.constexpr = ROWS % BM == 0 and K0 + K1 == K // SPLIT
    if FETCHED:
        w0 = w.load([first, begin]).T
        if K1 > 0:
            w1 = w_rest.load([first, begin + K0]).T
    else:
        w0 = tile_of(w + column[None, :] * K + k0[:, None], k0[:, None], column[None, :], K, N, FULL_W)
        if K1 > 0:
            w1 = tile_of(w + column[None, :] * K + k1[:, None], k1[:, None], column[None, :], K, N, FULL_W)
    bias = tl.load(b + column, column < N, 0.0).to(tl.float32)
    if NORMED:
        gamma0 = tl.load(gamma + k0, k0 < K, 0.0).to(tl.float32)
        beta0 = tl.load(beta + k0, k0 < K, 0.0).to(tl.float32)
        if K1 > 0:
            gamma1 = tl.load(gamma + k1, k1 < K, 0.0).to(tl.float32)
            beta1 = tl.load(beta + k1, k1 < K, 0.0).to(tl.float32)
    await_ahead(EARLY)
    x0 = tile_of(x + row[:, None] * K + k0[None, :], row[:, None], k0[None, :], ROWS, K, FULL_X)
    if K1 > 0:
        x1 = tile_of(x + row[:, None] * K + k1[None, :], row[:, None], k1[None, :], ROWS, K, FULL_X)
    if NORMED:  # as the kernel `layer_norm` does it: mean and variance one after the other, rounded once, at the end
        wide0 = x0.to(tl.float32)
        mean = tl.sum(wide0, 1)
        if K1 > 0:
            wide1 = x1.to(tl.float32)
            mean += tl.sum(wide1, 1)
        mean /= K
        wide0 = tl.where((k0 < K)[None, :], wide0 - mean[:, None], 0.0)
        squares = tl.sum(wide0 * wide0, 1)
        if K1 > 0:
            wide1 = tl.where((k1 < K)[None, :], wide1 - mean[:, None], 0.0)
            squares += tl.sum(wide1 * wide1, 1)
        inverse = 1.0 / tl.sqrt(squares / K + eps)
        x0 = (wide0 * inverse[:, None] * gamma0[None, :] + beta0[None, :]).to(x.dtype.element_ty)
        if K1 > 0:
            x1 = (wide1 * inverse[:, None] * gamma1[None, :] + beta1[None, :]).to(x.dtype.element_ty)
    total = tl.dot(x0, w0)
    if K1 > 0:
        total = tl.dot(x1, w1, total)
    let_follow(EARLY)
    last = True
    if SPLIT > 1:
        last, total = joined(total, partial, arrived, program, tl.num_programs(0), SPLIT, BM, BN)
    if last:
        total = activate(total + bias[None, :], ACTIVATION, HALF=True)
        places = row[:, None] * N + column[None, :]
        known = (row < ROWS)[:, None] & (column < N)[None, :]
        if RESIDUAL:
            total += tl.load(r + places, known, 0.0).to(tl.float32)
        total = activate(total, AFTER, HALF=True)
        tl.store(y + places, total.to(y.dtype.element_ty), known)
