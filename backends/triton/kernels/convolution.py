"""y = after(act(convolution of x ⊙ s with w, plus b) + r), channels last: as one matrix product over gathered rows.

The product's rows are pixels of the result, its columns channels of the result, and its inner dimension walks the taps
of the kernel and blocks of channels: no im2col is ever stored. Channels fewer than a tile of the tensor cores takes, as
a picture has, are walked together with the taps. With one tap it is a plain product of many rows, and so it serves
linear layers too. Where few tiles would leave the device idle, the inner dimension is split; whoever comes last adds up
the parts, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .early import await_ahead, let_follow
from .hopper import PROCESSORS, SHARED
from .joined import joined

GROUP = 8  # tiles of rows that share columns run side by side, so that both are read from the second-level cache
MOST_CANDIDATES = 24
TILES = (
    *((256, 32), (256, 64), (256, 128), (128, 32), (128, 64), (128, 128), (128, 256)),
    *((64, 32), (64, 64), (64, 128), (32, 32), (32, 64), (32, 128), (16, 32), (16, 64), (16, 128)),
)
INNER, SPLITS = (16, 32, 64, 128), (1, 2, 4, 8, 16)
PLACES = 1 << 31  # of parts in memory: 32-bit numbers
FEW = tl.constexpr(16)  # channels: fewer would leave the inner dimension of a tile empty
FLOPS, READ, WRITTEN = 4e6, 4e4, 2.5e4  # a processor's operations and bytes in a microsecond
START, STEP, JOIN = 1.5, 0.12, 1.5  # microseconds of a program, of a step of its loop, of adding parts up


def candidates(
    pixels: int, out: int, channels: int, taps: int, *, residual: bool
) -> list[tuple[int, int, int, int, int, int]]:
    """Settings worth measuring: tile (pixels, channels, inner), parts of the inner dimension, warps, stages.

    Of all that fit the device, those for which the longest chain of steps and bytes of a processor is shortest.

    Args:
        pixels: rows of the product.
        out: its columns.
        channels: inner elements of a tap.
        taps: of the kernel.
        residual: whether a third matrix is read.
    """
    if channels < FEW.value and taps > 1:
        channels, taps = channels * taps, 1
    tiles: list[tuple[float, int, int, int, int, int]] = []
    for rows, columns in TILES:
        if (columns > 32 and columns >= 2 * out) or (rows > 16 and rows >= 2 * pixels):
            continue
        for inner in (i for i in INNER if i == 16 or i < 2 * channels):
            steps = taps * -(-channels // inner)
            if 6 * (rows + columns) * inner > SHARED:
                continue
            sums = -(-pixels // rows) * rows * -(-out // columns) * columns
            for split in (s for s in SPLITS if s == 1 or (steps >= 2 * s and s * sums < PLACES)):
                each = -(-steps // split)
                cost = _microseconds(pixels, out, rows, columns, inner, each, split, residual)
                tiles.append((cost, rows, columns, inner, split, each))
    found: list[tuple[int, int, int, int, int, int]] = []
    for place, (_, rows, columns, inner, split, each) in enumerate(sorted(tiles)):
        for warps in (w for w in (4, 8) if 4 <= rows * columns // (32 * w) <= 128):
            if warps == 8 and rows * columns < 4096:
                continue
            found.append((rows, columns, inner, split, warps, 3))
            if place < 4 and each >= 4 and 8 * (rows + columns) * inner <= SHARED:
                found.append((rows, columns, inner, split, warps, 4))
    return found[:MOST_CANDIDATES]


def _microseconds(
    pixels: int, out: int, rows: int, columns: int, inner: int, steps: int, split: int, residual: bool
) -> float:
    """How long the busiest processor takes, roughly."""
    programs = -(-pixels // rows) * -(-out // columns) * split
    step = max(2 * rows * columns * inner / FLOPS, 2 * (rows + columns) * inner / READ)
    written = rows * columns * (2 + 2 * residual + (8 if split > 1 else 0)) / WRITTEN
    at_once = max(1, min(4, SHARED // (6 * (rows + columns) * inner), 65536 // (rows * columns * 2)))
    waves = -(-programs // PROCESSORS)
    chain = START + steps * STEP + (JOIN + split * rows * columns * 4 / READ if split > 1 else 0)
    return waves * (steps * step + written) + chain * -(-waves // at_once)


@triton.jit
def convolution(
    x,
    w,
    bias,
    scale,
    residual,
    y,
    partial,
    arrived,
    PIXELS: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    C: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    HO: tl.constexpr,
    WO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    PT: tl.constexpr,
    PL: tl.constexpr,
    XN: tl.constexpr,
    XC: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    SCALED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    AFTER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    SPLIT: tl.constexpr,
    GROUP: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: a tile of `BM` pixels and `BN` channels of the result, a `SPLIT`th of the inner dimension.

    Args:
        x: (N, H, W, C) with strides XN, XH, XW, XC, w: (O, KH, KW, C), bias: (O), scale: (N, C).
        residual, y: (N, HO, WO, O).
        partial: (SPLIT, tiles, BM, BN) float32. arrived: (tiles), zeros, and again after.
        EARLY: as `early` has it.
    """
    ROWS: tl.constexpr = (PIXELS + BM - 1) // BM
    COLUMNS: tl.constexpr = (O + BN - 1) // BN
    FLAT: tl.constexpr = C < FEW and KH * KW > 1
    PADDED: tl.constexpr = PT > 0 or PL > 0 or (HO - 1) * SH + KH - PT > H or (WO - 1) * SW + KW - PL > W
    BLOCKS: tl.constexpr = (KH * KW * C + BK - 1) // BK if FLAT else (C + BK - 1) // BK
    STEPS: tl.constexpr = BLOCKS if FLAT else KH * KW * BLOCKS
    SHARE: tl.constexpr = (STEPS + SPLIT - 1) // SPLIT
    tile = tl.program_id(0)
    first = (tile // (GROUP * COLUMNS)) * GROUP
    height = tl.minimum(ROWS - first, GROUP)
    within = tile % (GROUP * COLUMNS)
    pixel = (first + within % height) * BM + tl.arange(0, BM)
    column = (within // height) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    real = pixel < PIXELS
    mine = column < O
    picture = pixel // (HO * WO)
    up = (pixel // WO) % HO * SH - PT
    left = pixel % WO * SW - PL
    rows = x + picture * XN + up * XH + left * XW
    columns = w + column * (KH * KW * C)
    total = tl.zeros((BM, BN), tl.float32)
    start = tl.program_id(1) * SHARE
    await_ahead(EARLY)
    for step in range(start, tl.minimum(start + SHARE, STEPS)):
        if FLAT:
            k = step * BK + inner
            i = k // C // KW
            j = k // C % KW
            known = k < KH * KW * C
            inside = real[:, None] & known[None, :]
            if PADDED:
                inside &= ((up[:, None] + i[None, :]) >= 0) & ((up[:, None] + i[None, :]) < H)
                inside &= ((left[:, None] + j[None, :]) >= 0) & ((left[:, None] + j[None, :]) < W)
            a = tl.load(rows[:, None] + (i * XH + j * XW + k % C * XC)[None, :], inside, 0.0)
            b = tl.load(columns[None, :] + k[:, None], mine[None, :] & known[:, None], 0.0)
        else:
            tap = step // BLOCKS
            i = tap // KW
            j = tap % KW
            c = (step % BLOCKS) * BK + inner
            at = (i * XH + j * XW + c * XC)[None, :]
            inside = real
            if PADDED:
                inside = real & (up + i >= 0) & (up + i < H) & (left + j >= 0) & (left + j < W)
            if C % BK == 0:
                a = tl.load(rows[:, None] + at, inside[:, None], 0.0)
                b = tl.load(columns[None, :] + (tap * C + c)[:, None], mine[None, :], 0.0)
            else:
                a = tl.load(rows[:, None] + at, inside[:, None] & (c < C)[None, :], 0.0)
                b = tl.load(columns[None, :] + (tap * C + c)[:, None], mine[None, :] & (c < C)[:, None], 0.0)
        if SCALED:
            s = tl.load(scale + (picture * C)[:, None] + c[None, :], real[:, None] & (c < C)[None, :], 0.0)
            a = (a.to(tl.float32) * s.to(tl.float32)).to(a.dtype)
        total = tl.dot(a, b, total)
    let_follow(EARLY)
    last = True
    if SPLIT > 1:
        last, total = joined(total, partial, arrived, tile, ROWS * COLUMNS, SPLIT, BM, BN)
    if last:
        total += tl.load(bias + column, mine, 0.0).to(tl.float32)[None, :]
        total = activate(total, ACTIVATION, HALF=True)
        places = pixel[:, None] * O + column[None, :]
        written = real[:, None] & mine[None, :]
        if RESIDUAL:
            total += tl.load(residual + places, written, 0.0).to(tl.float32)
        total = activate(total, AFTER, HALF=True)
        tl.store(y + places, total.to(y.dtype.element_ty), written)
