"""y = act(depthwise convolution of x with w, plus b), channels last, by programs that slide down strips of the result.

A program walks down a strip of `DOWN` rows of `RIGHT` results. The lines of x of a step reach `LIVE` = ⌈KH / SH⌉ of
these rows: their sums stay in registers, and so do the taps, so that an element of x is read and made wide once for all
KH rows of the kernel, and a tap once for all rows of results. At each step `SH` lines come, a row begins at the bias,
the uppermost leaves, and the sums of the others take other names.

As in `depthwise`, with `SUMMED` a program also leaves the sum of its results of each channel. A norm takes all channels
of a pixel, which no thread could hold beside its taps: it is a launch of its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .early import await_ahead, let_follow


@triton.jit
def sliding_depthwise(
    x,
    w,
    bias,
    y,
    sums_of,
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
    SUMMED: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
    RUNS: tl.constexpr,
    BC: tl.constexpr,
    AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `RUNS` strips of `DOWN` by `RIGHT` results, `BC` channels of them.

    Args:
        x: (N, H, W, C), w: (KH, KW, C), bias: (C), y: (N, HO, WO, C).
        sums_of: (N, programs of a picture, C) float32, with `SUMMED`: then none has strips of two pictures.
        AHEAD: whether a step's lines are read while those of the one before are multiplied.
        EARLY: as `early` has it.
    """
    ACROSS: tl.constexpr = (WO + RIGHT - 1) // RIGHT
    ALONG: tl.constexpr = (HO + DOWN - 1) // DOWN
    SPAN: tl.constexpr = (RIGHT - 1) * SW + KW
    LIVE: tl.constexpr = (KH + SH - 1) // SH
    LAST: tl.constexpr = (ACROSS - 1) * RIGHT * SW - PL  # where the last strip of a picture begins to read
    GEOMETRY: tl.constexpr = (C, H, W, SH, PL, SPAN, LAST)
    # A step t brings lines from t·SH - PT on and ends row t - (LIVE - 1). Where a program has all rows, steps are left
    # out whose lines are all above the picture, as long as none ends a row, or all below it, as long as each begun row
    # is live at the end.
    FIRST: tl.constexpr = min(PT // SH, LIVE - 1) if ALONG == 1 else 0
    FULL: tl.constexpr = DOWN + LIVE - 1
    STEPS: tl.constexpr = max(DOWN, min(FULL, (H + PT + SH - 1) // SH)) if ALONG == 1 else FULL
    run = tl.program_id(0) * RUNS + tl.arange(0, RUNS)[:, None]
    real = run < N * ALONG * ACROSS
    if SUMMED:
        PROGRAMS: tl.constexpr = (ALONG * ACROSS + RUNS - 1) // RUNS
        within = tl.program_id(0) % PROGRAMS * RUNS + tl.arange(0, RUNS)[:, None]
        run = tl.program_id(0) // PROGRAMS * (ALONG * ACROSS) + within
        real = within < ALONG * ACROSS
    picture = run // (ALONG * ACROSS)
    top = run // ACROSS % ALONG * DOWN
    start = run % ACROSS * RIGHT
    left = start * SW - PL
    c = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    # What belongs to each channel is read by the threads that need it, so that none hands it on.
    channel = tl.broadcast_to(c, (RUNS, BC))
    known = real & (c < C)
    await_ahead(EARLY)
    taps = ()
    for i in tl.static_range(KH * KW):
        taps = taps + (tl.load(w + (i * C + channel), channel < C, 0.0).to(tl.float32),)
    beginning = tl.load(bias + channel, channel < C, 0.0).to(tl.float32)
    sums = ()
    for _ in tl.static_range(LIVE * RIGHT):
        sums = sums + (beginning,)
    summed = tl.zeros((RUNS, BC), tl.float32)
    h = (top + FIRST) * SH - PT
    here = x + (((picture * H + h) * W + left) * C + c)
    row = top + (FIRST - (LIVE - 1))
    there = y + (((picture * HO + row) * WO + start) * C + c)
    if AHEAD:
        lines = _lines(here, h, left, known, GEOMETRY)
    for _ in range(FIRST, STEPS):
        if AHEAD:
            now = lines
            lines = _lines(here + SH * W * C, h + SH, left, known, GEOMETRY)
        else:
            now = _lines(here, h, left, known, GEOMETRY)
        # Sums k·RIGHT to k·RIGHT + RIGHT - 1 are of the k-th row from below.
        begun = ()
        for _r in tl.static_range(RIGHT):
            begun = begun + (beginning,)
        sums = begun + sums[: (LIVE - 1) * RIGHT]
        for i in tl.static_range(SH):
            wide = ()
            for j in tl.static_range(SPAN):
                wide = wide + (now[i * SPAN + j].to(tl.float32),)
            added = ()
            for k in tl.static_range(LIVE):
                for r in tl.static_range(RIGHT):
                    total = sums[k * RIGHT + r]
                    if k * SH + i < KH:
                        for j in tl.static_range(KW):
                            total = tl.fma(wide[r * SW + j], taps[(k * SH + i) * KW + j], total)
                    added = added + (total,)
            sums = added
        for r in tl.static_range(RIGHT):
            written = known & (row >= top) & (row < HO) & (start + r < WO)
            result = activate(sums[(LIVE - 1) * RIGHT + r], ACTIVATION, HALF=True).to(y.dtype.element_ty)
            tl.store(there + r * C, result, written)
            if SUMMED:
                summed += tl.where(written, result.to(tl.float32), 0.0)
        h += SH
        here += SH * W * C
        row += 1
        there += WO * C
    let_follow(EARLY)
    for k in tl.static_range(max(LIVE - 1 - STEPS, 0), FULL - STEPS):  # rows of the picture that no step ended
        for r in tl.static_range(RIGHT):
            written = known & (row + k < HO) & (start + r < WO)
            result = activate(sums[(LIVE - 2 - k) * RIGHT + r], ACTIVATION, HALF=True).to(y.dtype.element_ty)
            tl.store(there + (k * WO + r) * C, result, written)
            if SUMMED:
                summed += tl.where(written, result.to(tl.float32), 0.0)
    if SUMMED:
        tl.store(sums_of + (tl.program_id(0) * C + c), tl.sum(summed, 0)[None, :], c < C)


@triton.jit
def _lines(here, h, left, known, GEOMETRY: tl.constexpr):
    """`SH` lines of x, of each the `SPAN` neighbours that a strip reads: zero outside the picture."""
    C: tl.constexpr = GEOMETRY[0]
    H: tl.constexpr = GEOMETRY[1]
    W: tl.constexpr = GEOMETRY[2]
    SH: tl.constexpr = GEOMETRY[3]
    PL: tl.constexpr = GEOMETRY[4]
    SPAN: tl.constexpr = GEOMETRY[5]
    LAST: tl.constexpr = GEOMETRY[6]
    found = ()
    for i in tl.static_range(SH):
        seen = known & (h + i >= 0) & (h + i < H)
        for j in tl.static_range(SPAN):
            inside = seen
            if j < PL:
                inside = inside & (left >= -j)
            if LAST + j >= W:
                inside = inside & (left < W - j)
            found = found + (tl.load(here + (i * W + j) * C, inside, 0.0),)
    return found
