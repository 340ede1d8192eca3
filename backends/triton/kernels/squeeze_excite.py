"""gate(expand·act(reduce·mean(x) + b) + d), what squeeze-and-excitation weighs channels by; or mean(x) alone.

The first product is linear, so a program multiplies what it has summed, a slice of a picture's pixels and a block of
channels, and leaves `S` numbers of the small layer; its share of the weights is asked for before the pixels are.
These are added up, always in the same order, and multiplied on: by whoever comes last of a picture, alone, or in a
launch of its own, where many programs add up the same numbers and each makes a part of the result. Nothing is rounded
to half precision between the pixels and the result.
"""

from __future__ import annotations

from itertools import product

import triton
import triton.language as tl

from ..library.squeeze import WIDEST
from .activations import activate
from .hopper import PROCESSORS

BLOCKS, ROWS, WARPS = (32, 64, 128, 256), (8, 16, 32, 64, 128, 256), (4, 8, 16)
FEWEST = 2048  # elements of x that are read at once
STEPS = (1, 2, 4, 8, 16, 32)  # tiles of a program, the next after the one before
LARGEST = WIDEST * BLOCKS[0]  # weights that a program holds at once
MOST_PARTS = 512  # of a picture
START, STEP, JOIN = 2.0, 0.6, 2.0  # microseconds of a launch, of a tile, of adding parts up
READ = 2e4  # bytes that a processor reads in a microsecond
MOST_CANDIDATES, HALF = 16, 8


def candidates(pictures: int, pixels: int, channels: int, squeezed: int) -> list[tuple[int, int, int, int, int]]:
    """Settings worth measuring: pixels and channels of a tile, slices of the pixels, warps, launches.

    Args:
        pictures: of x.
        pixels: of a picture.
        channels: of it.
        squeezed: the width of the small layer; 0: the mean alone.
    """
    small = width(squeezed)
    blocks = [b for b in BLOCKS if b == BLOCKS[0] or (b < 2 * channels and b * small <= LARGEST)]
    found: dict[tuple[int, int, int, int, int], float] = {}
    for block, rows, warps in product(blocks, ROWS, WARPS):
        tile, enough = rows * block, rows >= pixels
        if (rows > ROWS[0] and rows >= 2 * pixels) or not (tile >= FEWEST or enough) or tile > 2048 * warps:
            continue
        if warps > WARPS[0] and tile < 256 * warps:
            continue
        for steps in STEPS:
            slices = -(-pixels // (rows * steps))
            parts = slices * -(-channels // block)
            if parts > MOST_PARTS:
                continue
            waves = max(1.0, pictures * parts * warps / (PROCESSORS * 32))
            read = 2 * tile * steps * max(1.0, pictures * parts / PROCESSORS) / READ
            alone = waves * (START + steps * STEP) + read
            setting = rows, block, slices, warps
            added = 4 * parts * small / READ
            if squeezed:
                found[*setting, 1] = alone + JOIN + added + STEP * -(-channels // expanded(channels, small, warps))
                programs = pictures * -(-channels // apart(pictures, channels, small))
                found[*setting, 2] = alone + max(1.0, programs / PROCESSORS) * (START + added)
            else:
                found[*setting, 1] = alone + (JOIN if slices > 1 else 0)
    ranked = sorted(found, key=lambda c: found[c])
    each = [[c for c in ranked if c[-1] == launches] for launches in (1, 2)]
    return [*each[0][: MOST_CANDIDATES - len(each[1][:HALF])], *each[1][:HALF]]


def width(squeezed: int) -> int:
    """The small layer's, as a kernel's tiles have it."""
    return triton.next_power_of_2(max(squeezed, 1))


def expanded(channels: int, small: int, warps: int) -> int:
    """Channels of the result that the last program makes at once: 32 weights a thread, and as many on their way."""
    return min(triton.next_power_of_2(channels), max(32, 1024 * warps // small))


def apart(pictures: int, channels: int, small: int) -> int:
    """Channels of the result that a program of the second launch makes: more where there are programs enough."""
    each = max(32, 4096 // small)
    while each < channels and each * small < LARGEST and pictures * -(-channels // (2 * each)) >= 2 * PROCESSORS:
        each *= 2
    return min(triton.next_power_of_2(channels), each)


@triton.jit
def _summed(x, PIXELS: tl.constexpr, C: tl.constexpr, SHARE: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """Sums over a slice of a picture's pixels, of a block of channels: (BC) float32."""
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    total = tl.zeros((BP, BC), tl.float32)
    first = tl.program_id(1) * SHARE
    for start in range(first, tl.minimum(first + SHARE, PIXELS), BP):
        pixel = start + tl.arange(0, BP)
        inside = (pixel < tl.minimum(first + SHARE, PIXELS))[:, None] & (c < C)[None, :]
        total += tl.load(x + (pixel * C)[:, None] + c[None, :], inside, 0.0).to(tl.float32)
    return tl.sum(total, 0)


@triton.jit
def mean_pixels(
    x,
    y,
    partial,
    arrived,
    PIXELS: tl.constexpr,
    C: tl.constexpr,
    SLICES: tl.constexpr,
    SHARE: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
):
    """One program: a slice of a picture's pixels, a block of channels; grid (N, SLICES, blocks).

    Args:
        x: (N, PIXELS, C), y: (N, C).
        partial: (N, blocks, SLICES, BC) float32. arrived: (N, blocks), zeros, and again after.
    """
    BLOCKS: tl.constexpr = (C + BC - 1) // BC
    picture = tl.program_id(0).to(tl.int64)
    total = _summed(x + picture * (PIXELS * C), PIXELS, C, SHARE, BP, BC)
    last = True
    group = picture * BLOCKS + tl.program_id(2)
    column = tl.arange(0, BC)
    if SLICES > 1:
        tl.store(partial + (group * SLICES + tl.program_id(1)) * BC + column, total)
        tl.debug_barrier()
        last = tl.atomic_add(arrived + group, 1, sem="acq_rel") == SLICES - 1
    if last:
        if SLICES > 1:
            tl.store(arrived + group, 0)
            total = _added(partial + group * (SLICES * BC), SLICES, BC, BC)
        c = tl.program_id(2) * BC + column
        tl.store(y + picture * C + c, (total / PIXELS).to(y.dtype.element_ty), c < C)


@triton.jit
def squeeze_excite(
    x,
    reduce,
    squeezed_bias,
    expand,
    bias,
    y,
    partial,
    arrived,
    PIXELS: tl.constexpr,
    COUNT: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    SLICES: tl.constexpr,
    SHARE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATE: tl.constexpr,
    BP: tl.constexpr,
    BC: tl.constexpr,
    BS: tl.constexpr,
    BE: tl.constexpr,
    APART: tl.constexpr,
):
    """One program: a slice of a picture's pixels, a block of channels; grid (N, SLICES, blocks).

    Args:
        x: (N, PIXELS, C), reduce: (S, C), squeezed_bias: (S).
        expand: (S, C), bias: (C), y: (N, C).
        partial: (N, SLICES · blocks, BS) float32. arrived: (N), zeros, and again after.
        COUNT: what a mean is the sum over: more than PIXELS where x is sums already.
        APART: leave the parts to `excite`.
    """
    PARTS: tl.constexpr = SLICES * ((C + BC - 1) // BC)
    picture = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BS)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    weights = tl.load(reduce + (s * C)[:, None] + c[None, :], (s < S)[:, None] & (c < C)[None, :], 0.0)
    total = _summed(x + picture * (PIXELS * C), PIXELS, C, SHARE, BP, BC)
    part = tl.sum(weights.to(tl.float32) * (total / COUNT)[None, :], 1)
    parts = partial + picture * (PARTS * BS)
    tl.store(parts + (tl.program_id(2) * SLICES + tl.program_id(1)) * BS + s, part)
    last = False
    if not APART:
        tl.debug_barrier()
        last = tl.atomic_add(arrived + picture, 1, sem="acq_rel") == PARTS - 1
    if last:
        tl.store(arrived + picture, 0)
        rows = expand + (s * C)[:, None]
        e = tl.arange(0, BE)
        tile = tl.load(rows + e[None, :], (s < S)[:, None] & (e < C)[None, :], 0.0)
        small = _small(parts, squeezed_bias, s, S, PARTS, ACTIVATION, BS)
        for start in range(0, C, BE):
            e = start + tl.arange(0, BE)
            after = e + BE  # read while this one is multiplied
            ahead = tl.load(rows + after[None, :], (s < S)[:, None] & (after < C)[None, :], 0.0)
            result = tl.sum(tile.to(tl.float32) * small, 0) + tl.load(bias + e, e < C, 0.0).to(tl.float32)
            tl.store(y + picture * C + e, activate(result, GATE).to(y.dtype.element_ty), e < C)
            tile = ahead


@triton.jit
def excite(
    parts,
    squeezed_bias,
    expand,
    bias,
    y,
    C: tl.constexpr,
    S: tl.constexpr,
    PARTS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATE: tl.constexpr,
    BS: tl.constexpr,
    BE: tl.constexpr,
):
    """One program: `BE` channels of a picture's result; grid (N, blocks). Arguments are as of `squeeze_excite`."""
    picture = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BS)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    tile = tl.load(expand + (s * C)[:, None] + e[None, :], (s < S)[:, None] & (e < C)[None, :], 0.0)
    small = _small(parts + picture * (PARTS * BS), squeezed_bias, s, S, PARTS, ACTIVATION, BS)
    result = tl.sum(tile.to(tl.float32) * small, 0) + tl.load(bias + e, e < C, 0.0).to(tl.float32)
    tl.store(y + picture * C + e, activate(result, GATE).to(y.dtype.element_ty), e < C)


@triton.jit
def _small(parts, squeezed_bias, s, S: tl.constexpr, PARTS: tl.constexpr, ACTIVATION: tl.constexpr, BS: tl.constexpr):
    """The small layer's activated numbers, (BS, 1)."""
    small = _added(parts, PARTS, BS, BS) + tl.load(squeezed_bias + s, s < S, 0.0).to(tl.float32)
    return tl.where(s < S, activate(small, ACTIVATION), 0.0)[:, None]


@triton.jit
def _added(parts, COUNT: tl.constexpr, LENGTH: tl.constexpr, B: tl.constexpr):
    """The sum of `COUNT` rows that other programs have written, in an order that is always the same."""
    MOST: tl.constexpr = 4096 // B if B < 512 else 8
    WHOLE: tl.constexpr = triton.next_power_of_2(COUNT)
    ROWS: tl.constexpr = WHOLE if WHOLE < MOST else MOST
    column = tl.arange(0, B)
    total = tl.zeros((ROWS, B), tl.float32)
    for start in range(0, COUNT, ROWS):
        row = start + tl.arange(0, ROWS)
        place = (row * LENGTH)[:, None] + column[None, :]
        total += tl.load(parts + place, (row < COUNT)[:, None], 0.0, cache_modifier=".cg")
    return tl.sum(total, 0)
