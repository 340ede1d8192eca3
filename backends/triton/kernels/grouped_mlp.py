"""y = act(x·Wᵀ + b)·Vᵀ + c + r of very many rows, by groups of warps that walk by themselves (compute capability 9.0).

In `mlp` the warps of a program wait for each other at every block of hidden units. Here groups of four warps walk over
tiles of rows, each its own way: one multiplies while another activates. A program stays on its processor. Where both
matrices fit in its memory (147 KB for rows of 96 and 384 hidden units) they are read once, and three groups share them;
else a warp that does nothing else brings block after block, and two groups, whose sums fill more registers, take each
block when they come to it and say when they have done with it: neither gets further ahead than there are blocks on
their way. The copying engine (TMA) brings all of it, the next rows and the residual too, and takes results away from
where the residual lay. ConvNeXt-T's first blocks at batch 64, on an H100: 87 microseconds without a norm and 117 by
`mlp`, those of the second stage 71 and 91.

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

LOADER = gl.constexpr(40)  # registers of a thread of the warp that brings blocks


@gluon.jit
def grouped_mlp(
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
    STAGES: gl.constexpr,
    PROGRAMS: gl.constexpr,
    REGISTERS: gl.constexpr,
):
    """One program: every `PROGRAMS`th tiles of `BM` rows, one for each group.

    Args:
        x0, x1: descriptors of x, (ROWS, K), in blocks of BM rows and K0 or K1 columns.
        w0, w1: of (H, K), in blocks of BH rows and K0 or K1 columns. v0, v1: of (O, H), of O0 or O1 rows, BH columns.
        r0, r1, y0, y1: of (ROWS, O), of BM rows and O0 or O1 columns. Where K1 or O1 is 0, there is no second tile.
        b, c, gamma, beta: pointers, (H), (O), (K) and (K). eps: of the norm. NORMED: whether x goes through it first.
        BM: 64, what four warps multiply at once. BH: hidden units of a block.
        STAGES: blocks on their way, for two groups; 0: all blocks stay, for three.
        REGISTERS: of a thread.
    """
    BLOCKS: gl.constexpr = (H + BH - 1) // BH
    HELD: gl.constexpr = STAGES if STAGES > 0 else BLOCKS
    GROUPS: gl.constexpr = 2 if STAGES > 0 else 3
    w0s = gl.allocate_shared_memory(x0.dtype, [HELD, BH, K0], w0.layout)
    v0s = gl.allocate_shared_memory(x0.dtype, [HELD, O0, BH], v0.layout)
    x0s = gl.allocate_shared_memory(x0.dtype, [GROUPS, BM, K0], x0.layout)
    y0s = gl.allocate_shared_memory(x0.dtype, [GROUPS, BM, O0], y0.layout)
    w1s = w0s
    x1s = x0s
    if K1 > 0:
        w1s = gl.allocate_shared_memory(x0.dtype, [HELD, BH, K1], w1.layout)
        x1s = gl.allocate_shared_memory(x0.dtype, [GROUPS, BM, K1], x1.layout)
    v1s = v0s
    y1s = y0s
    if O1 > 0:
        v1s = gl.allocate_shared_memory(x0.dtype, [HELD, O1, BH], v1.layout)
        y1s = gl.allocate_shared_memory(x0.dtype, [GROUPS, BM, O1], y1.layout)
    bs = gl.allocate_shared_memory(gl.float32, [BLOCKS, BH], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    for i in gl.static_range(BLOCKS):
        unit = i * BH + gl.arange(0, BH, gl.BlockedLayout([1], [32], [4], [0]))
        bs.index(i).store(gl.load(b + unit, unit < H, 0.0).to(gl.float32))
    norm0 = bs
    norm1 = bs
    if NORMED:
        norm0 = _kept(gamma, beta, 0, K0, K)
        norm1 = norm0
        if K1 > 0:
            norm1 = _kept(gamma, beta, K0, K1, K)
    here = gl.allocate_shared_memory(gl.int64, [HELD, 1], mbarrier.MBarrierLayout())  # a block has come
    done = gl.allocate_shared_memory(gl.int64, [HELD, 1], mbarrier.MBarrierLayout())  # every group has done with it
    rows = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    residual = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(HELD):
        mbarrier.init(here.index(i), count=1)
        mbarrier.init(done.index(i), count=GROUPS)
    for i in gl.static_range(GROUPS):
        mbarrier.init(rows.index(i), count=1)
        mbarrier.init(residual.index(i), count=1)
    matrices = (w0, w1, v0, v1, w0s, w1s, v0s, v1s, here)
    told = (x0, x1, r0, r1, y0, y1, c, eps)
    held = (w0s, w1s, v0s, v1s, x0s, x1s, y0s, y1s, bs, norm0, norm1, here, done, rows, residual)
    sizes: gl.constexpr = (ROWS, K, O, K0, K1, O0, O1, RESIDUAL, NORMED, ACTIVATION, BM, BH, BLOCKS, STAGES, PROGRAMS)
    if STAGES > 0:
        gl.warp_specialize(
            [(_walk, (told, held, sizes, 0)), (_walk, (told, held, sizes, 1)), (_load, (matrices, done, sizes))],
            [4, 1],
            [REGISTERS, LOADER],
        )
    else:
        for i in gl.static_range(BLOCKS):
            _bring_block(matrices, i, i, K0, K1, O0, O1, BH)
        gl.warp_specialize(
            [(_walk, (told, held, sizes, 0)), (_walk, (told, held, sizes, 1)), (_walk, (told, held, sizes, 2))],
            [4, 4],
            [REGISTERS, REGISTERS],
        )


@gluon.jit
def _load(matrices, done, sizes: gl.constexpr):
    """The warp that brings blocks: all of them once for each tile of the groups."""
    ROWS: gl.constexpr = sizes[0]
    K0: gl.constexpr = sizes[3]
    K1: gl.constexpr = sizes[4]
    O0: gl.constexpr = sizes[5]
    O1: gl.constexpr = sizes[6]
    BM: gl.constexpr = sizes[10]
    BH: gl.constexpr = sizes[11]
    BLOCKS: gl.constexpr = sizes[12]
    STAGES: gl.constexpr = sizes[13]
    PROGRAMS: gl.constexpr = sizes[14]
    slot = 0
    for _ in range(_turns(ROWS, BM, 2, PROGRAMS)):
        for block in range(BLOCKS):
            stage = slot % STAGES
            mbarrier.wait(done.index(stage), (slot // STAGES & 1) ^ 1)  # nothing lies there yet: it is done with
            _bring_block(matrices, block, stage, K0, K1, O0, O1, BH)
            slot += 1


@gluon.jit
def _bring_block(
    matrices,
    block,
    stage,
    K0: gl.constexpr,
    K1: gl.constexpr,
    O0: gl.constexpr,
    O1: gl.constexpr,
    BH: gl.constexpr,
):
    """A block of hidden units of both matrices is on its way."""
    w0, w1, v0, v1, w0s, w1s, v0s, v1s, here = matrices
    mbarrier.expect(here.index(stage), 2 * BH * (K0 + K1 + O0 + O1))
    fetch(w0, [block * BH, 0], here.index(stage), w0s.index(stage))
    fetch(v0, [0, block * BH], here.index(stage), v0s.index(stage))
    if K1 > 0:
        fetch(w1, [block * BH, K0], here.index(stage), w1s.index(stage))
    if O1 > 0:
        fetch(v1, [O0, block * BH], here.index(stage), v1s.index(stage))


@gluon.jit
def _turns(ROWS: gl.constexpr, BM: gl.constexpr, GROUPS: gl.constexpr, PROGRAMS: gl.constexpr):
    """How many tiles each group of this program walks over; beyond the last row are zeros, and nothing is written."""
    TILES: gl.constexpr = (ROWS + BM - 1) // BM
    STEP: gl.constexpr = PROGRAMS * GROUPS
    return (TILES - gl.program_id(0) * GROUPS + STEP - 1) // STEP


@gluon.jit
def _walk(told, held, sizes: gl.constexpr, group: gl.constexpr):
    """One group of warps: its tiles, one after the other."""
    x0, x1, r0, r1, y0, y1, c, eps = told
    w0s, w1s, v0s, v1s, x0s, x1s, y0s, y1s, bs, norm0, norm1, here, done, rows, residual = held
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
    STAGES: gl.constexpr = sizes[13]
    PROGRAMS: gl.constexpr = sizes[14]
    GROUPS: gl.constexpr = 2 if STAGES > 0 else 3
    Y1: gl.constexpr = O1 if O1 > 0 else O0
    LH: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BH, 16])
    L0: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, O0, 16])
    L1: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, Y1, 16])
    LX: gl.constexpr = gl.DotOperandLayout(0, LH, 2)
    x0h = x0s.index(group)
    x1h = x1s.index(group)
    y0h = y0s.index(group)
    y1h = y1s.index(group)
    turns = _turns(ROWS, BM, GROUPS, PROGRAMS)
    row = (gl.program_id(0) * GROUPS + group) * BM
    _bring(x0, x1, rows.index(group), x0h, x1h, row, turns > 0, BM, K0, K1)
    if RESIDUAL:
        _bring(r0, r1, residual.index(group), y0h, y1h, row, turns > 0, BM, O0, O1)
    if STAGES == 0:
        for i in gl.static_range(BLOCKS):
            mbarrier.wait(here.index(i), 0)
    slot = 0
    for turn in range(turns):
        after = row + PROGRAMS * GROUPS * BM
        more = turn + 1 < turns
        mbarrier.wait(rows.index(group), turn & 1)
        a0 = x0h.load(LX)
        a1 = a0
        if K1 > 0:
            a1 = x1h.load(LX)
        _bring(x0, x1, rows.index(group), x0h, x1h, after, more, BM, K0, K1)
        if NORMED:
            a0, a1 = _normed(a0, a1, norm0, norm1, eps, LX, K, K0, K1)
        total0 = gl.zeros((BM, O0), gl.float32, L0)
        total1 = gl.zeros((BM, Y1), gl.float32, L1)
        for block in range(BLOCKS):
            stage = block
            if STAGES > 0:
                stage = slot % STAGES
                mbarrier.wait(here.index(stage), slot // STAGES & 1)
            hidden = gl.zeros((BM, BH), gl.float32, LH)
            hidden = warpgroup_mma(a0, w0s.index(stage).permute((1, 0)), hidden, use_acc=False, is_async=True)
            if K1 > 0:
                hidden = warpgroup_mma(a1, w1s.index(stage).permute((1, 0)), hidden, is_async=True)
            hidden, a0, a1 = warpgroup_mma_wait(0, deps=[hidden, a0, a1])
            hidden += gl.expand_dims(bs.index(block).load(gl.SliceLayout(0, LH)), 0)
            active = activate(hidden, ACTIVATION, HALF=True).to(a0.dtype)
            h0 = gl.convert_layout(active, gl.DotOperandLayout(0, L0, 2))
            h1 = gl.convert_layout(active, gl.DotOperandLayout(0, L1, 2))
            total0 = warpgroup_mma(h0, v0s.index(stage).permute((1, 0)), total0, is_async=True)
            if O1 > 0:
                total1 = warpgroup_mma(h1, v1s.index(stage).permute((1, 0)), total1, is_async=True)
            total0, total1, h0, h1 = warpgroup_mma_wait(0, deps=[total0, total1, h0, h1])
            if STAGES > 0:
                mbarrier.arrive(done.index(stage), count=1)
                slot += 1
        total0 = _summed(total0, c, 0, O0, O, L0)
        total1 = _summed(total1, c, O0, Y1, O, L1)
        if RESIDUAL:
            mbarrier.wait(residual.index(group), turn & 1)
            total0 += y0h.load(L0).to(gl.float32)
            if O1 > 0:
                total1 += y1h.load(L1).to(gl.float32)
        y0h.store(total0.to(y0.dtype))
        if O1 > 0:
            y1h.store(total1.to(y0.dtype))
        fence_async_shared()
        deliver(y0, [row, 0], y0h)
        if O1 > 0:
            deliver(y1, [row, O0], y1h)
        tma.store_wait(0)
        if RESIDUAL:
            _bring(r0, r1, residual.index(group), y0h, y1h, after, more, BM, O0, O1)
        row = after


@gluon.jit
def _bring(m0, m1, here, to0, to1, row, there_is, BM: gl.constexpr, WIDTH0: gl.constexpr, WIDTH1: gl.constexpr):
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
def _kept(gamma, beta, first, WIDTH: gl.constexpr, K: gl.constexpr):
    """A norm's scale and shift in single precision in the processor's memory, zeros beyond the last column."""
    kept = gl.allocate_shared_memory(gl.float32, [2, WIDTH], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    column = first + gl.arange(0, WIDTH, gl.BlockedLayout([1], [32], [4], [0]))
    kept.index(0).store(gl.load(gamma + column, column < K, 0.0).to(gl.float32))
    kept.index(1).store(gl.load(beta + column, column < K, 0.0).to(gl.float32))
    return kept


@gluon.jit
def _normed(x0, x1, norm0, norm1, eps, LAYOUT: gl.constexpr, K: gl.constexpr, K0: gl.constexpr, K1: gl.constexpr):
    """As the kernel `layer_norm` does it: mean and variance one after the other, rounded once, at the end."""
    mean = gl.sum(x0.to(gl.float32), 1)  # columns beyond the last come as zeros
    if K1 > 0:
        mean += gl.sum(x1.to(gl.float32), 1)
    mean = gl.expand_dims(mean / K, 1)
    centred0 = _centred(x0, mean, 0, LAYOUT, K0, K)
    squares = gl.sum(centred0 * centred0, 1)
    centred1 = centred0
    if K1 > 0:
        centred1 = _centred(x1, mean, K0, LAYOUT, K1, K)
        squares += gl.sum(centred1 * centred1, 1)
    inverse = gl.expand_dims(1.0 / gl.sqrt(squares / K + eps), 1)
    x0 = _scaled(centred0, inverse, norm0, LAYOUT).to(x0.dtype)
    if K1 > 0:
        x1 = _scaled(centred1, inverse, norm1, LAYOUT).to(x0.dtype)
    return x0, x1


@gluon.jit
def _centred(x, mean, first: gl.constexpr, LAYOUT: gl.constexpr, WIDTH: gl.constexpr, K: gl.constexpr):
    """Rows minus their mean; columns beyond the last stay zeros: the variance is without them."""
    centred = x.to(gl.float32) - mean
    if first + WIDTH > K:
        column = first + gl.arange(0, WIDTH, gl.SliceLayout(0, LAYOUT))
        centred = gl.where(gl.expand_dims(column < K, 0), centred, 0.0)
    return centred


@gluon.jit
def _scaled(centred, inverse, norm, LAYOUT: gl.constexpr):
    """(x - μ)/σ·γ + β, zeros beyond the last column."""
    scale = norm.index(0).load(gl.SliceLayout(0, LAYOUT))
    shift = norm.index(1).load(gl.SliceLayout(0, LAYOUT))
    return centred * inverse * gl.expand_dims(scale, 0) + gl.expand_dims(shift, 0)
