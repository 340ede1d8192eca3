"""y = act(x·Wᵀ + b)·Vᵀ + c + r in one launch: the hidden tensor is never stored, as flash attention's scores are not.

x may be LayerNorm of what is read: a program holds whole rows before its first product, so they are normalised where
they lie, and a pass over memory is saved.

A program owns rows, and walks over blocks of hidden units: those of its rows are made, activated, rounded as they would
be in memory, and multiplied on from the registers that they lie in. What is saved is the hidden tensor's way through
memory; what it costs is that each program reads all weights, from the second-level cache. Widths of 3·2ⁿ are two tiles
(96 = 64 + 32): filling up to 128 would be a third more arithmetic. Where few rows would leave the device idle, the
hidden units are split; whoever comes last adds up the parts, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..widths import LEAST, parts
from .activations import activate
from .early import await_ahead, let_follow
from .hopper import PROCESSORS, SHARED
from .tile import tile_of

MOST_CANDIDATES = 16
TILES = (  # rows, hidden units of a block, warps
    *((256, 64, 8), (256, 32, 8), (128, 128, 8), (128, 64, 8), (128, 32, 8), (128, 64, 4), (128, 32, 4)),
    *(
        (64, 128, 4),
        (64, 64, 4),
        (64, 32, 4),
        (64, 64, 8),
        (64, 32, 8),
        (32, 64, 4),
        (32, 32, 4),
        (16, 128, 4),
        (16, 64, 4),
        (16, 32, 4),
    ),
)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
MOST_HELD = 200  # registers of a thread: sums, hidden units, these once more as halves, and rows that are normalised
OTHERS = 40  # registers of a thread for all else
FLOPS, READ, ACTIVE = 3.5e6, 4e4, 1.2e4  # of a processor in a microsecond: operations, bytes, activations
START, STEP, JOIN = 1.5, 0.6, 1.5  # microseconds of a program, of a step of its loop, of adding parts up


def candidates(
    rows: int, inner: int, hidden: int, out: int, *, normed: bool = False
) -> list[tuple[int, int, int, int, int]]:
    """Settings worth measuring: rows and hidden units of a tile, parts of the hidden units, warps, stages.

    Of all that a processor holds, those for which the busiest one is done first.

    Args:
        rows: of x.
        inner: elements of a row of x.
        hidden: units.
        out: elements of a row of the result.
        normed: whether rows are normalised first: they then are an operand from the registers that they lie in.
    """
    wide, high = sum(parts(inner)), sum(parts(out))
    kept = wide if normed else 0
    found: list[tuple[float, int, int, int, int, int]] = []
    for tile, block, warps in TILES:
        if (
            (tile > LEAST and tile >= 2 * rows)
            or block >= 2 * hidden
            or _held(tile, block, warps, high, kept) > MOST_HELD
        ):
            continue
        blocks, tiles = -(-hidden // block), -(-rows // tile)
        for stages in (s for s in (3, 2) if _bytes(tile, block, wide, high, s) <= SHARED):
            for split in (s for s in SPLITS if s == 1 or (blocks >= 2 * s and tiles * s <= 2 * PROCESSORS)):
                each = -(-blocks // split)
                if (split - 1) * each >= blocks:  # a part would have nothing to do
                    continue
                cost = _microseconds(rows, tile, block, each, split, warps, stages, wide, high, kept)
                found.append((cost, tile, block, split, warps, stages))
    return [c[1:] for c in sorted(found)[:MOST_CANDIDATES]]


def _held(tile: int, block: int, warps: int, high: int, kept: int) -> int:
    return tile * (2 * high + kept + 3 * block) // (64 * warps)


def _bytes(tile: int, block: int, wide: int, high: int, stages: int) -> int:
    """Of shared memory: the rows, and each stage's blocks of both matrices."""
    return 2 * (tile * wide + stages * block * (wide + high))


def _microseconds(
    rows: int, tile: int, block: int, steps: int, split: int, warps: int, stages: int, wide: int, high: int, kept: int
) -> float:
    """How long the busiest processor takes, roughly: programs that share it multiply, read and activate at once.

    Warps that fewer rows than 16 each leave over make the same hidden units as others.
    """
    waiting = -(-(-(-rows // tile) * split) // PROCESSORS)
    held = _held(tile, block, warps, high, kept) + OTHERS
    at_once = max(1, min(waiting, 65536 // (32 * warps * held), SHARED // _bytes(tile, block, wide, high, stages)))
    alike = max(1, LEAST * warps // tile)
    multiplied, active = 2 * tile * block * (alike * wide + high) / FLOPS, alike * tile * block / ACTIVE
    works = multiplied, active, 2 * block * (wide + high) / READ
    step = max(*works, (sum(works) + STEP) / at_once)
    joined = JOIN + split * tile * high * 4 / READ if split > 1 else 0
    return waiting * steps * step + START + joined + waiting * tile * 6 * high / READ


@triton.jit
def _centred(x, mean, column, K: tl.constexpr):
    """Rows minus their mean in single precision; columns beyond the last stay zeros: the variance is without them."""
    return tl.where((column < K)[None, :], x.to(tl.float32) - mean[:, None], 0.0)


@triton.jit
def _scaled(centred, inverse, gamma, beta, column, K: tl.constexpr):
    """(x - μ)/σ·γ + β, zeros beyond the last column."""
    known = column < K
    result = centred * inverse[:, None] * tl.load(gamma + column, known, 0.0).to(tl.float32)[None, :]
    return result + tl.load(beta + column, known, 0.0).to(tl.float32)[None, :]


@triton.jit
def _awaited(total):
    """The same numbers, but something reads them: else the product is still on its way when the next block's begins.

    Registers of one product are then written while another is under way, and so that this is safe the assembler lets
    every instruction of the tensor cores wait for the one before.
    """
    return total.to(tl.int32, bitcast=True).to(tl.float32, bitcast=True)


@triton.jit
def _written(total, c, r, y, row, column, ROWS: tl.constexpr, O: tl.constexpr, RESIDUAL: tl.constexpr):  # noqa: E741
    """The last of what is done to sums, and their way to memory."""
    known = (row < ROWS)[:, None] & (column < O)[None, :]
    places = row[:, None] * O + column[None, :]
    total += tl.load(c + column, column < O, 0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        total += tl.load(r + places, known, 0.0).to(tl.float32)
    tl.store(y + places, total.to(y.dtype.element_ty), known)


@triton.jit
def mlp(
    x,
    w,
    b,
    v,
    c,
    r,
    y,
    partial,
    arrived,
    gamma,
    beta,
    eps,
    ROWS: tl.constexpr,
    K: tl.constexpr,
    H: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    K0: tl.constexpr,
    K1: tl.constexpr,
    O0: tl.constexpr,
    O1: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORMED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BM: tl.constexpr,
    BH: tl.constexpr,
    SPLIT: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BM` rows, a `SPLIT`th of the hidden units.

    Args:
        x: (ROWS, K), in tiles of K0 and K1 columns, w: (H, K), b: (H), v: (O, H), c: (O).
        r, y: (ROWS, O), in tiles of O0 and O1 columns.
        partial: (SPLIT, tiles, BM·(O0 + O1)) float32. arrived: (tiles), zeros, and again after.
        gamma, beta: (K), scale and shift of LayerNorm, eps: of its variance. NORMED: whether x goes through it first.
        EARLY: as `early` has it.
    """
    BLOCKS: tl.constexpr = (H + BH - 1) // BH
    SHARE: tl.constexpr = (BLOCKS + SPLIT - 1) // SPLIT
    TILES: tl.constexpr = (ROWS + BM - 1) // BM
    WHOLE: tl.constexpr = H % BH == 0
    tile = tl.program_id(0)
    row = tile * BM + tl.arange(0, BM)
    unit = tl.arange(0, BH)
    k0 = tl.arange(0, K0)
    o0 = tl.arange(0, O0)
    FULL_X: tl.constexpr = ROWS % BM == 0 and K0 + K1 == K
    FULL_W: tl.constexpr = WHOLE and K0 + K1 == K
    FULL_V: tl.constexpr = WHOLE and O0 + O1 == O
    await_ahead(EARLY)
    x0 = tile_of(x + row[:, None] * K + k0[None, :], row[:, None], k0[None, :], ROWS, K, FULL_X)
    total0 = tl.zeros((BM, O0), tl.float32)
    if K1 > 0:
        k1 = K0 + tl.arange(0, K1)
        x1 = tile_of(x + row[:, None] * K + k1[None, :], row[:, None], k1[None, :], ROWS, K, FULL_X)
    if NORMED:  # as the kernel `layer_norm` does it: mean and variance one after the other, rounded once, at the end
        mean = tl.sum(x0.to(tl.float32), 1)
        if K1 > 0:
            mean += tl.sum(x1.to(tl.float32), 1)
        mean /= K
        centred0 = _centred(x0, mean, k0, K)
        squares = tl.sum(centred0 * centred0, 1)
        if K1 > 0:
            centred1 = _centred(x1, mean, k1, K)
            squares += tl.sum(centred1 * centred1, 1)
        inverse = 1.0 / tl.sqrt(squares / K + eps)
        x0 = _scaled(centred0, inverse, gamma, beta, k0, K).to(x.dtype.element_ty)
        if K1 > 0:
            x1 = _scaled(centred1, inverse, gamma, beta, k1, K).to(x.dtype.element_ty)
    if O1 > 0:
        o1 = O0 + tl.arange(0, O1)
        total1 = tl.zeros((BM, O1), tl.float32)
    start = tl.program_id(1) * SHARE
    for block in range(start, tl.minimum(start + SHARE, BLOCKS)):
        h = block * BH + unit
        w0 = tile_of(w + h[None, :] * K + k0[:, None], k0[:, None], h[None, :], K, H, FULL_W)
        hidden = tl.dot(x0, w0)
        if K1 > 0:
            w1 = tile_of(w + h[None, :] * K + k1[:, None], k1[:, None], h[None, :], K, H, FULL_W)
            hidden = tl.dot(x1, w1, hidden)
        if WHOLE:
            hidden += tl.load(b + h).to(tl.float32)[None, :]
        else:
            hidden += tl.load(b + h, h < H, 0.0).to(tl.float32)[None, :]
        a = activate(hidden, ACTIVATION, HALF=True).to(x0.dtype)
        v0 = tile_of(v + o0[None, :] * H + h[:, None], h[:, None], o0[None, :], H, O, FULL_V)
        total0 = tl.dot(a, v0, total0)
        if O1 == 0:
            total0 = _awaited(total0)
        if O1 > 0:
            v1 = tile_of(v + o1[None, :] * H + h[:, None], h[:, None], o1[None, :], H, O, FULL_V)
            total1 = _awaited(tl.dot(a, v1, total1))
    let_follow(EARLY)
    last = True
    if SPLIT > 1:
        SIZE: tl.constexpr = BM * (O0 + O1)
        all0 = tl.arange(0, BM)[:, None] * O0 + tl.arange(0, O0)[None, :]
        own = partial + (tl.program_id(1) * TILES + tile) * SIZE
        tl.store(own + all0, total0)
        if O1 > 0:
            all1 = BM * O0 + tl.arange(0, BM)[:, None] * O1 + tl.arange(0, O1)[None, :]
            tl.store(own + all1, total1)
        tl.debug_barrier()
        last = tl.atomic_add(arrived + tile, 1, sem="acq_rel") == SPLIT - 1
    if last:
        if SPLIT > 1:
            tl.store(arrived + tile, 0)
            total0 = tl.zeros((BM, O0), tl.float32)
            for part in range(SPLIT):
                total0 += tl.load(partial + (part * TILES + tile) * SIZE + all0, cache_modifier=".cg")
            if O1 > 0:
                total1 = tl.zeros((BM, O1), tl.float32)
                for part in range(SPLIT):
                    total1 += tl.load(partial + (part * TILES + tile) * SIZE + all1, cache_modifier=".cg")
        _written(total0, c, r, y, row, o0, ROWS, O, RESIDUAL)
        if O1 > 0:
            _written(total1, c, r, y, row, o1, ROWS, O, RESIDUAL)
