"""y = act(depthwise convolution of x with w, plus b), channels last; or that normalised over its channels.

A program owns a small rectangle of neighbouring results. An element of x that is read (and made wide) once serves every
result that it reaches: with seven by two results a 7x7 kernel reads 7 elements a result instead of 49. With `NORMED` a
program holds all channels of its results, in `CHUNKS` parts since widths such as 96 and 768 are no powers of two, and
LayerNorm needs no pass of its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .hopper import PROCESSORS

RIGHT, DOWN, RUNS, WIDTHS, WARPS = (1, 2, 4, 7, 8), (1, 2), (1, 2, 4, 8), (32, 64, 128, 256, 512), (1, 2, 4, 8)
FEWEST, MOST = 4, 96  # results that a thread holds
LARGEST = 180  # products written out in a program's text: each costs some 30 ms of compiling, with `AHEAD` three times
FULL = 16 * PROCESSORS  # warps: of more, some work while others wait for what they read
MOST_CANDIDATES = 24


def candidates(
    pixels: int, width: int, height: int, channels: int, taps: int, *, normed: bool
) -> list[tuple[int, int, int, int, int]]:
    """Settings worth measuring: results to the right and downwards, runs of them, channels of a block, warps.

    Args:
        pixels: of all results.
        width: of a row of results.
        height: rows of results of a picture.
        channels: of the result.
        taps: of a row of the kernel.
        normed: whether a program holds them all.
    """
    found: list[tuple[float, tuple[int, int, int, int, int]]] = []
    for right in (r for r in RIGHT if r <= width):
        for down in (d for d in DOWN if d <= height):
            for runs in RUNS:
                for block in (b for b in WIDTHS if b < 2 * channels):
                    for warps in WARPS:
                        whole = -(-channels // block) * block
                        held = right * down * runs * (whole if normed else block) / (32 * warps)
                        if not FEWEST <= held <= MOST or runs * block < 32 * warps:
                            continue
                        programs = pixels / (right * down * runs) * (1 if normed else whole / block)
                        text = right * down * taps * (whole // block if normed else 1)
                        if text * (3 if programs * warps < FULL else 1) > LARGEST:
                            continue
                        # What is read a result, what of it is no channel, and processors that have nothing to do.
                        work = (1 + 6 / right) * (1 + 0.5 / down) * whole / channels
                        idle = max(1.0, 4 * PROCESSORS / max(programs * warps, 1))
                        found.append((work * idle, (right, down, runs, block, warps)))
    return [candidate for _, candidate in sorted(found)[:MOST_CANDIDATES]]


@triton.jit
def depthwise(
    x,
    w,
    bias,
    gamma,
    beta,
    y,
    eps,
    N: tl.constexpr,
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
    ACTIVATION: tl.constexpr,
    NORMED: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
    RUNS: tl.constexpr,
    BC: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """One program: `RUNS` rectangles of `DOWN` by `RIGHT` results, `BC` channels of them (all of them with `NORMED`).

    Args:
        x: (N, H, W, C), w: (KH, KW, C), bias: (C), y: (N, HO, WO, C).
        gamma, beta: (C), of LayerNorm over the channels.
        AHEAD: read a line of x while the one before is multiplied: where other programs do not fill the time.
    """
    ACROSS: tl.constexpr = (WO + RIGHT - 1) // RIGHT
    ALONG: tl.constexpr = (HO + DOWN - 1) // DOWN
    CHUNKS: tl.constexpr = (C + BC - 1) // BC if NORMED else 1
    run = tl.program_id(0) * RUNS + tl.arange(0, RUNS)
    real = run < N * ALONG * ACROSS
    picture = run // (ALONG * ACROSS)
    top = run // ACROSS % ALONG * DOWN
    start = run % ACROSS * RIGHT
    sums = ()
    for _ in tl.static_range(CHUNKS * DOWN * RIGHT):
        sums = sums + (tl.zeros((RUNS, BC), tl.float32),)
    SPAN: tl.constexpr = (RIGHT - 1) * SW + KW
    rows = x + picture * (H * W * C)
    left = start * SW - PL
    lines = _lines(rows, top * SH - PT, left, real, C, H, W, CHUNKS, SPAN, BC)
    for i in range(KH + (DOWN - 1) * SH):
        h = top * SH - PT + i
        if AHEAD:
            wide, lines = _wide(lines), _lines(rows, h + 1, left, real, C, H, W, CHUNKS, SPAN, BC)
        else:
            wide = _wide(_lines(rows, h, left, real, C, H, W, CHUNKS, SPAN, BC))
        for down in tl.static_range(DOWN):
            row = i - down * SH
            if (row >= 0) & (row < KH):
                sums = _add(sums, wide, w + row * (KW * C), C, KW, SW, RIGHT, DOWN, down, CHUNKS, BC)
    results = ()
    for chunk in tl.static_range(CHUNKS):
        c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
        shift = tl.load(bias + c, c < C, 0.0).to(tl.float32)[None, :]
        for r in tl.static_range(DOWN * RIGHT):
            results = results + (sums[chunk * (DOWN * RIGHT) + r] + shift,)
    for r in tl.static_range(DOWN * RIGHT):
        column = start + r % RIGHT
        row = top + r // RIGHT
        written = real & (column < WO) & (row < HO)
        place = ((picture * HO + row) * WO + column) * C
        mean = tl.zeros((RUNS,), tl.float32)
        scale = tl.zeros((RUNS,), tl.float32)
        if NORMED:
            for chunk in tl.static_range(CHUNKS):
                known = chunk * BC + tl.arange(0, BC) < C
                mean += tl.sum(tl.where(known[None, :], results[chunk * (DOWN * RIGHT) + r], 0.0), 1) / C
            for chunk in tl.static_range(CHUNKS):
                known = chunk * BC + tl.arange(0, BC) < C
                centred = tl.where(known[None, :], results[chunk * (DOWN * RIGHT) + r] - mean[:, None], 0.0)
                scale += tl.sum(centred * centred, 1) / C
            scale = 1.0 / tl.sqrt(scale + eps)
        for chunk in tl.static_range(CHUNKS):
            c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
            known = c < C
            result = results[chunk * (DOWN * RIGHT) + r]
            if NORMED:
                result = (result - mean[:, None]) * scale[:, None]
                result = result * tl.load(gamma + c, known, 0.0).to(tl.float32)[None, :]
                result = result + tl.load(beta + c, known, 0.0).to(tl.float32)[None, :]
            result = activate(result, ACTIVATION, HALF=True)
            tl.store(y + place[:, None] + c[None, :], result.to(y.dtype.element_ty), written[:, None] & known[None, :])


@triton.jit
def _lines(
    rows,
    h,
    left,
    real,
    C: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    CHUNKS: tl.constexpr,
    ACROSS: tl.constexpr,
    BC: tl.constexpr,
):
    """`ACROSS` neighbours of a line of x, each of all chunks: tensors of (RUNS, BC), zero outside the picture."""
    found = ()
    seen = real & (h >= 0) & (h < H)
    for chunk in tl.static_range(CHUNKS):
        c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
        for j in tl.static_range(ACROSS):
            at = left + j
            inside = (seen & (at >= 0) & (at < W))[:, None] & (c < C)[None, :]
            found = found + (tl.load(rows[:, None] + ((h * W + at) * C)[:, None] + c[None, :], inside, 0.0),)
    return found


@triton.jit
def _wide(lines):
    """In single precision."""
    found = ()
    for j in tl.static_range(len(lines)):
        found = found + (lines[j].to(tl.float32),)
    return found


@triton.jit
def _add(
    sums,
    lines,
    factors,
    C: tl.constexpr,
    KW: tl.constexpr,
    SW: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
    LINE: tl.constexpr,
    CHUNKS: tl.constexpr,
    BC: tl.constexpr,
):
    """A row of the kernel times what it reaches of a line of x, added to the results of that line of the rectangle."""
    ACROSS: tl.constexpr = (RIGHT - 1) * SW + KW
    added = ()
    for chunk in tl.static_range(CHUNKS):
        c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
        taps = ()
        for j in tl.static_range(KW):
            taps = taps + (tl.load(factors + j * C + c, c < C, 0.0).to(tl.float32)[None, :],)
        for r in tl.static_range(DOWN * RIGHT):
            total = sums[chunk * (DOWN * RIGHT) + r]
            if r // RIGHT == LINE:
                for j in tl.static_range(KW):
                    total += lines[chunk * ACROSS + r % RIGHT * SW + j] * taps[j]
            added = added + (total,)
    return added
