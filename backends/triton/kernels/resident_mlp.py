"""y = act(x·Wᵀ + b)·Vᵀ + c + r of very many narrow rows, for compute capability 9.0: both matrices stay, rows pass by.

`mlp` reads both matrices again for every tile of rows, and its warps wait for each other at every block of hidden
units. Where both matrices fit in one processor's memory (147 KB for rows of 96 and 384 hidden units), a program stays
on its processor, reads them once, and three groups of four warps walk over tiles of rows, each its own way: none waits
for another, so one multiplies while others activate. The copying engine (TMA) brings the next rows and the residual,
and takes results away from where the residual lay. ConvNeXt-T's first blocks at batch 64 without a norm, on an H100: 88
microseconds, 114 by `mlp`; 106 where warps wrote the results themselves, 135 by Triton with its barriers between warps.

Written in Gluon, Triton's language below, which Triton's interpreter does not know: what it computes is checked on a
device (`tests/gpu`), and there before each use, by the tuner.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from .activations import activate

# Triton 3.6 has the older names alone, Triton 3.9 the newer.
fetch = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
deliver = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global


@gluon.jit
def resident_mlp(
    x0,
    x1,
    w0,
    w1,
    v0,
    v1,
    r0,
    r1,
    y0,
    y1,
    b,
    c,
    gamma,
    beta,
    eps,
    ROWS: gl.constexpr,
    K: gl.constexpr,
    H: gl.constexpr,
    O: gl.constexpr,  # noqa: E741
    K0: gl.constexpr,
    K1: gl.constexpr,
    O0: gl.constexpr,
    O1: gl.constexpr,
    RESIDUAL: gl.constexpr,
    NORMED: gl.constexpr,
    ACTIVATION: gl.constexpr,
    BM: gl.constexpr,
    BH: gl.constexpr,
    PROGRAMS: gl.constexpr,
    REGISTERS: gl.constexpr,
):
    """One program: every `PROGRAMS`th three tiles of `BM` rows.

    Args:
        x0, x1: descriptors of x, (ROWS, K), in blocks of BM rows and K0 or K1 columns.
        w0, w1: of (H, K), in blocks of BH rows and K0 or K1 columns. v0, v1: of (O, H), of O0 or O1 rows, BH columns.
        r0, r1, y0, y1: of (ROWS, O), of BM rows and O0 or O1 columns. Where K1 or O1 is 0, there is no second tile.
        b, c, gamma, beta: pointers, (H), (O), (K) and (K). eps: of the norm. NORMED: whether x goes through it first.
        BM: 64, what four warps multiply at once.
        REGISTERS: of a thread.
    """
    BLOCKS: gl.constexpr = (H + BH - 1) // BH
    w0s = gl.allocate_shared_memory(x0.dtype, [BLOCKS, BH, K0], w0.layout)
    v0s = gl.allocate_shared_memory(x0.dtype, [BLOCKS, O0, BH], v0.layout)
    x0s = gl.allocate_shared_memory(x0.dtype, [3, BM, K0], x0.layout)
    y0s = gl.allocate_shared_memory(x0.dtype, [3, BM, O0], y0.layout)
    w1s = w0s
    x1s = x0s
    if K1 > 0:
        w1s = gl.allocate_shared_memory(x0.dtype, [BLOCKS, BH, K1], w1.layout)
        x1s = gl.allocate_shared_memory(x0.dtype, [3, BM, K1], x1.layout)
    v1s = v0s
    y1s = y0s
    if O1 > 0:
        v1s = gl.allocate_shared_memory(x0.dtype, [BLOCKS, O1, BH], v1.layout)
        y1s = gl.allocate_shared_memory(x0.dtype, [3, BM, O1], y1.layout)
    bs = gl.allocate_shared_memory(gl.float32, [BLOCKS, BH], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    bars = gl.allocate_shared_memory(gl.int64, [7, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(7):
        mbarrier.init(bars.index(i), count=1)
    mbarrier.expect(bars.index(0), 2 * BLOCKS * BH * (K0 + K1 + O0 + O1))
    for i in gl.static_range(BLOCKS):
        fetch(w0, [i * BH, 0], bars.index(0), w0s.index(i))
        fetch(v0, [0, i * BH], bars.index(0), v0s.index(i))
        if K1 > 0:
            fetch(w1, [i * BH, K0], bars.index(0), w1s.index(i))
        if O1 > 0:
            fetch(v1, [O0, i * BH], bars.index(0), v1s.index(i))
        unit = i * BH + gl.arange(0, BH, gl.BlockedLayout([1], [32], [4], [0]))
        bs.index(i).store(gl.load(b + unit, unit < H, 0.0).to(gl.float32))
    told = (x0, x1, r0, r1, y0, y1, c, gamma, beta, eps)
    held = (w0s, w1s, v0s, v1s, x0s, x1s, y0s, y1s, bs, bars)
    sizes: gl.constexpr = (ROWS, K, O, K0, K1, O0, O1, RESIDUAL, NORMED, ACTIVATION, BM, BH, BLOCKS, PROGRAMS)
    gl.warp_specialize(
        [(_walk, (told, held, sizes, 0)), (_walk, (told, held, sizes, 1)), (_walk, (told, held, sizes, 2))],
        [4, 4],
        [REGISTERS, REGISTERS],
    )


@gluon.jit
def _walk(told, held, sizes: gl.constexpr, group: gl.constexpr):
    """One group of warps: every third of a program's tiles."""
    x0, x1, r0, r1, y0, y1, c, gamma, beta, eps = told
    w0s, w1s, v0s, v1s, x0s, x1s, y0s, y1s, bs, bars = held
    ROWS: gl.constexpr = sizes[0]
    K: gl.constexpr = sizes[1]
    O: gl.constexpr = sizes[2]  # noqa: E741
    K0: gl.constexpr = sizes[3]
    K1: gl.constexpr = sizes[4]
    O0: gl.constexpr = sizes[5]
    O1: gl.constexpr = sizes[6]
    RESIDUAL: gl.constexpr = sizes[7]
    NORMED: gl.constexpr = sizes[8]
    ACTIVATION: gl.constexpr = sizes[9]
    BM: gl.constexpr = sizes[10]
    BH: gl.constexpr = sizes[11]
    BLOCKS: gl.constexpr = sizes[12]
    STEP: gl.constexpr = sizes[13] * 3
    TILES: gl.constexpr = (ROWS + BM - 1) // BM
    LH: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BH, 16])
    L0: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, O0, 16])
    L1: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, O1 if O1 > 0 else O0, 16])
    LX: gl.constexpr = gl.DotOperandLayout(0, LH, 2)
    X1: gl.constexpr = K1 if K1 > 0 else K0
    Y1: gl.constexpr = O1 if O1 > 0 else O0
    x0h = x0s.index(group)
    x1h = x1s.index(group)
    y0h = y0s.index(group)
    y1h = y1s.index(group)
    rows_here = bars.index(1 + 2 * group)
    residual_here = bars.index(2 + 2 * group)
    first = gl.program_id(0) * 3 + group
    _bring(x0, x1, rows_here, x0h, x1h, first * BM, first < TILES, BM, K0, K1)
    if RESIDUAL:
        _bring(r0, r1, residual_here, y0h, y1h, first * BM, first < TILES, BM, O0, O1)
    mbarrier.wait(bars.index(0), 0)
    phase = 0
    for tile in range(first, TILES, STEP):
        after = tile + STEP
        mbarrier.wait(rows_here, phase)
        a0 = x0h.load(LX)
        a1 = a0
        if K1 > 0:
            a1 = x1h.load(LX)
        _bring(x0, x1, rows_here, x0h, x1h, after * BM, after < TILES, BM, K0, K1)
        if NORMED:
            a0, a1 = _normed(a0, a1, gamma, beta, eps, LX, K, K0, K1)
        total0 = gl.zeros((BM, O0), gl.float32, L0)
        total1 = gl.zeros((BM, Y1), gl.float32, L1)
        for block in range(BLOCKS):
            hidden = gl.zeros((BM, BH), gl.float32, LH)
            hidden = warpgroup_mma(a0, w0s.index(block).permute((1, 0)), hidden, use_acc=False, is_async=True)
            if K1 > 0:
                hidden = warpgroup_mma(a1, w1s.index(block).permute((1, 0)), hidden, is_async=True)
            hidden, a0, a1 = warpgroup_mma_wait(0, deps=[hidden, a0, a1])
            hidden += gl.expand_dims(bs.index(block).load(gl.SliceLayout(0, LH)), 0)
            active = activate(hidden, ACTIVATION, HALF=True).to(a0.dtype)
            h0 = gl.convert_layout(active, gl.DotOperandLayout(0, L0, 2))
            h1 = gl.convert_layout(active, gl.DotOperandLayout(0, L1, 2))
            total0 = warpgroup_mma(h0, v0s.index(block).permute((1, 0)), total0, is_async=True)
            if O1 > 0:
                total1 = warpgroup_mma(h1, v1s.index(block).permute((1, 0)), total1, is_async=True)
            total0, total1, h0, h1 = warpgroup_mma_wait(0, deps=[total0, total1, h0, h1])
        total0 = _summed(total0, c, 0, O0, O, L0)
        total1 = _summed(total1, c, O0, Y1, O, L1)
        if RESIDUAL:
            mbarrier.wait(residual_here, phase)
            total0 += y0h.load(L0).to(gl.float32)
            if O1 > 0:
                total1 += y1h.load(L1).to(gl.float32)
        y0h.store(total0.to(y0.dtype))
        if O1 > 0:
            y1h.store(total1.to(y0.dtype))
        fence_async_shared()
        deliver(y0, [tile * BM, 0], y0h)
        if O1 > 0:
            deliver(y1, [tile * BM, O0], y1h)
        tma.store_wait(0)
        if RESIDUAL:
            _bring(r0, r1, residual_here, y0h, y1h, after * BM, after < TILES, BM, O0, O1)
        phase ^= 1


@gluon.jit
def _bring(
    m0, m1, here, to0, to1, row, there_is, BM: gl.constexpr, WIDTH0: gl.constexpr, WIDTH1: gl.constexpr
):
    """Rows from `row` on are on their way, in one or two tiles; the barrier `here` knows how many bytes."""
    mbarrier.expect(here, 2 * BM * (WIDTH0 + WIDTH1), pred=there_is)
    fetch(m0, [row, 0], here, to0, pred=there_is)
    if WIDTH1 > 0:
        fetch(m1, [row, WIDTH0], here, to1, pred=there_is)


@gluon.jit
def _summed(total, c, first, WIDTH: gl.constexpr, O: gl.constexpr, LAYOUT: gl.constexpr):  # noqa: E741
    """With the second bias."""
    column = first + gl.arange(0, WIDTH, gl.SliceLayout(0, LAYOUT))
    return total + gl.expand_dims(gl.load(c + column, column < O, 0.0).to(gl.float32), 0)


@gluon.jit
def _normed(
    x0, x1, gamma, beta, eps, LAYOUT: gl.constexpr, K: gl.constexpr, K0: gl.constexpr, K1: gl.constexpr
):
    """As the kernel `layer_norm` does it: mean and variance one after the other, rounded once, at the end."""
    k0 = gl.arange(0, K0, gl.SliceLayout(0, LAYOUT))
    k1 = K0 + gl.arange(0, K1 if K1 > 0 else K0, gl.SliceLayout(0, LAYOUT))
    mean = gl.sum(x0.to(gl.float32), 1)  # columns beyond the last come as zeros
    if K1 > 0:
        mean += gl.sum(x1.to(gl.float32), 1)
    mean = gl.expand_dims(mean / K, 1)
    centred0 = gl.where(gl.expand_dims(k0 < K, 0), x0.to(gl.float32) - mean, 0.0)
    squares = gl.sum(centred0 * centred0, 1)
    centred1 = centred0
    if K1 > 0:
        centred1 = gl.where(gl.expand_dims(k1 < K, 0), x1.to(gl.float32) - mean, 0.0)
        squares += gl.sum(centred1 * centred1, 1)
    inverse = gl.expand_dims(1.0 / gl.sqrt(squares / K + eps), 1)
    x0 = _scaled(centred0, inverse, gamma, beta, k0, K).to(x0.dtype)
    if K1 > 0:
        x1 = _scaled(centred1, inverse, gamma, beta, k1, K).to(x0.dtype)
    return x0, x1


@gluon.jit
def _scaled(centred, inverse, gamma, beta, column, K: gl.constexpr):
    """(x - μ)/σ·γ + β, zeros beyond the last column."""
    scale = gl.load(gamma + column, column < K, 0.0).to(gl.float32)
    shift = gl.load(beta + column, column < K, 0.0).to(gl.float32)
    return centred * inverse * gl.expand_dims(scale, 0) + gl.expand_dims(shift, 0)
