"""y = act(depthwise convolution of x with w, plus b), channels last; or that normalised over its channels.

A program owns small rectangles of neighbouring results, one below the other, so that what it reads twice lies near. An
element of x that is read (and made wide) once serves every result that it reaches: with seven by two results a 7x7
kernel reads 7 elements a result instead of 49. With `NORMED` a program holds all channels of its results, in parts,
since widths such as 96 and 768 are no powers of two, and LayerNorm needs no pass of its own.

With `SUMMED` a program also leaves the sum of its results of each channel, so that their means need no pass over them.

Many results: one line of x after the other. Few: nothing counts but how often one waits for memory, so that all lines
are read before the first product, by the same threads or each by its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .depthwise_walks import AHEAD, AT_ONCE, SPREAD
from .early import await_ahead, let_follow

_AHEAD, _AT_ONCE, _SPREAD = tl.constexpr(AHEAD), tl.constexpr(AT_ONCE), tl.constexpr(SPREAD)


@triton.jit
def depthwise(
    x,
    w,
    bias,
    gamma,
    beta,
    y,
    sums_of,
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
    SUMMED: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
    RUNS: tl.constexpr,
    BC: tl.constexpr,
    WALK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `RUNS` rectangles of `DOWN` by `RIGHT` results, `BC` channels of them (all of them with `NORMED`).

    Args:
        x: (N, H, W, C), w: (KH, KW, C), bias: (C), y: (N, HO, WO, C).
        gamma, beta: (C), of LayerNorm over the channels.
        sums_of: (N, programs of a picture, C) float32, with `SUMMED`: then none has rectangles of two pictures.
        WALK: how lines are read, and not a sliding one; with `SPREAD` one rectangle of one line of results a program.
        EARLY: as `early` has it.
    """
    ACROSS: tl.constexpr = (WO + RIGHT - 1) // RIGHT
    ALONG: tl.constexpr = (HO + DOWN - 1) // DOWN
    CHUNKS: tl.constexpr = (C + BC - 1) // BC if NORMED else 1
    LINES: tl.constexpr = KH + (DOWN - 1) * SH
    SPAN: tl.constexpr = (RIGHT - 1) * SW + KW
    PARTS: tl.constexpr = triton.next_power_of_2(KH) if WALK == _SPREAD else 1
    GEOMETRY: tl.constexpr = (C, H, W, KH, KW, SW, PL, SPAN, ACROSS, RIGHT, PARTS * RUNS, BC, WALK)
    tl.static_assert(PARTS == 1 or RUNS * DOWN == 1, "lines are spread for one line of results")
    tl.static_assert(not (SUMMED and NORMED), "what is normalised is not summed")
    run = tl.program_id(0) * RUNS + tl.arange(0, RUNS)
    real = run < N * ALONG * ACROSS
    if SUMMED:
        PROGRAMS: tl.constexpr = (ALONG * ACROSS + RUNS - 1) // RUNS
        within = tl.program_id(0) % PROGRAMS * RUNS + tl.arange(0, RUNS)
        run = tl.program_id(0) // PROGRAMS * (ALONG * ACROSS) + within
        real = within < ALONG * ACROSS
    picture = run // (ALONG * ACROSS)
    top = run % ALONG * DOWN
    start = run // ALONG % ACROSS * RIGHT
    part = tl.arange(0, PARTS)
    h = top * SH - PT + part
    left = start * SW - PL
    place = ((picture * H + h) * W + left) * C
    needed = real & (part < KH)
    await_ahead(EARLY)
    read = ()
    factors = ()
    vectors = ()
    if WALK >= _AT_ONCE:
        for chunk in tl.static_range(CHUNKS):
            for i in tl.static_range(LINES if WALK == _AT_ONCE else 1):
                read = read + (_line(x, place + i * (W * C), h + i, left, needed, chunk, GEOMETRY),)
        if WALK == _SPREAD:
            for chunk in tl.static_range(CHUNKS):
                factors = factors + (_taps(w, part, chunk, GEOMETRY),)
        vectors = _vectors(bias, gamma, beta, CHUNKS, RUNS, C, BC, NORMED)
        tl.debug_barrier()  # else the assembler moves reads to where they are needed, one wait after the other
    results = ()
    for chunk in tl.static_range(CHUNKS):
        sums = ()
        for _ in tl.static_range(DOWN * RIGHT):
            sums = sums + (tl.zeros((PARTS * RUNS, BC), tl.float32),)
        if WALK == _SPREAD:
            added = _add(sums, _wide(read[chunk]), _wide(factors[chunk]), 0, GEOMETRY)
            sums = ()
            for r in tl.static_range(RIGHT):
                sums = sums + (tl.sum(added[r], 0)[None, :],)
        elif WALK == _AT_ONCE:
            for i in tl.static_range(LINES):
                wide = _wide(read[chunk * LINES + i])
                for down in tl.static_range(DOWN):
                    if i >= down * SH and i - down * SH < KH:
                        sums = _add(sums, wide, _wide(_taps(w, i - down * SH, chunk, GEOMETRY)), down, GEOMETRY)
        else:
            line = _line(x, place, h, left, needed, chunk, GEOMETRY)
            for i in range(LINES):
                if WALK == _AHEAD:
                    wide = _wide(line)
                    line = _line(x, place + (i + 1) * (W * C), h + i + 1, left, needed, chunk, GEOMETRY)
                else:
                    wide = _wide(_line(x, place + i * (W * C), h + i, left, needed, chunk, GEOMETRY))
                for down in tl.static_range(DOWN):
                    row = i - down * SH
                    if DOWN == 1:  # noqa: SIM114  # each branch is decided at another time
                        sums = _add(sums, wide, _wide(_taps(w, row, chunk, GEOMETRY)), down, GEOMETRY)
                    elif (row >= 0) & (row < KH):
                        sums = _add(sums, wide, _wide(_taps(w, row, chunk, GEOMETRY)), down, GEOMETRY)
        results = results + sums
    if WALK < _AT_ONCE:
        vectors = _vectors(bias, gamma, beta, CHUNKS, RUNS, C, BC, NORMED)
    shifted = ()
    for r in tl.static_range(CHUNKS * DOWN * RIGHT):
        shifted = shifted + (results[r] + vectors[r // (DOWN * RIGHT)].to(tl.float32),)
    results = shifted
    let_follow(EARLY)
    summed = tl.zeros((RUNS, BC), tl.float32)
    for r in tl.static_range(DOWN * RIGHT):
        column = start + r % RIGHT
        row = top + r // RIGHT
        written = real & (column < WO) & (row < HO)
        place = ((picture * HO + row) * WO + column) * C
        mean = tl.zeros((RUNS,), tl.float32)
        scale = tl.zeros((RUNS,), tl.float32)
        if NORMED:
            total = tl.zeros((RUNS, BC), tl.float32)
            for chunk in tl.static_range(CHUNKS):
                # Past the last channel there are zeros: of x, of w and of the bias.
                total += results[chunk * (DOWN * RIGHT) + r]
            mean = tl.sum(total, 1) / C
            squares = tl.zeros((RUNS, BC), tl.float32)
            for chunk in tl.static_range(CHUNKS):
                centred = results[chunk * (DOWN * RIGHT) + r] - mean[:, None]
                if C % BC != 0:
                    centred = tl.where((chunk * BC + tl.arange(0, BC) < C)[None, :], centred, 0.0)
                squares += centred * centred
            scale = 1.0 / tl.sqrt(tl.sum(squares, 1) / C + eps)
        for chunk in tl.static_range(CHUNKS):
            c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
            result = results[chunk * (DOWN * RIGHT) + r]
            if NORMED:
                result = (result - mean[:, None]) * scale[:, None]
                result = result * vectors[CHUNKS + chunk].to(tl.float32) + vectors[2 * CHUNKS + chunk].to(tl.float32)
            result = activate(result, ACTIVATION, HALF=True).to(y.dtype.element_ty)
            known = written[:, None] if C % BC == 0 else written[:, None] & (c < C)[None, :]
            tl.store(y + (place[:, None] + c[None, :]), result, known)
            if SUMMED:
                summed += tl.where(written[:, None], result.to(tl.float32), 0.0)
    if SUMMED:
        c = tl.program_id(1) * BC + tl.arange(0, BC)
        tl.store(sums_of + (tl.program_id(0) * C + c), tl.sum(summed, 0), c < C)


@triton.jit
def _line(x, place, h, left, real, chunk: tl.constexpr, GEOMETRY: tl.constexpr):
    """Neighbours of a line of x, those that a rectangle reads: tensors of (rows, BC), zero outside the picture."""
    C: tl.constexpr = GEOMETRY[0]
    H: tl.constexpr = GEOMETRY[1]
    W: tl.constexpr = GEOMETRY[2]
    SW: tl.constexpr = GEOMETRY[5]
    PL: tl.constexpr = GEOMETRY[6]
    SPAN: tl.constexpr = GEOMETRY[7]
    ACROSS: tl.constexpr = GEOMETRY[8]
    RIGHT: tl.constexpr = GEOMETRY[9]
    BC: tl.constexpr = GEOMETRY[11]
    LAST: tl.constexpr = (ACROSS - 1) * RIGHT * SW - PL  # where the last rectangle of a line begins to read
    c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
    here = x + (place[:, None] + c[None, :])
    seen = real & (h >= 0) & (h < H)
    found = ()
    for j in tl.static_range(SPAN):
        inside = seen
        if j < PL:
            inside = inside & (left >= -j)
        if LAST + j >= W:
            inside = inside & (left < W - j)
        inside = inside[:, None]
        if C % BC != 0:
            inside = inside & (c < C)[None, :]
        found = found + (tl.load(here + j * C, inside, 0.0),)
    return found


@triton.jit
def _wide(line):
    """In single precision."""
    found = ()
    for j in tl.static_range(len(line)):
        found = found + (line[j].to(tl.float32),)
    return found


@triton.jit
def _vectors(
    bias,
    gamma,
    beta,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    BC: tl.constexpr,
    NORMED: tl.constexpr,
):
    """The bias of each chunk, and with `NORMED` what the norm scales by and adds."""
    found = ()
    for chunk in tl.static_range(CHUNKS):
        found = found + (_channel(bias, ROWS, chunk, C, BC),)
    if NORMED:
        for chunk in tl.static_range(CHUNKS):
            found = found + (_channel(gamma, ROWS, chunk, C, BC),)
        for chunk in tl.static_range(CHUNKS):
            found = found + (_channel(beta, ROWS, chunk, C, BC),)
    return found


@triton.jit
def _channel(of, ROWS: tl.constexpr, chunk: tl.constexpr, C: tl.constexpr, BC: tl.constexpr):
    """(ROWS, BC): what belongs to each channel, read by the threads that need it, so that none hands it on."""
    c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
    at = of + tl.broadcast_to(c[None, :], (ROWS, BC))
    if C % BC == 0:
        found = tl.load(at)
    else:
        found = tl.load(at, tl.broadcast_to((c < C)[None, :], (ROWS, BC)), 0.0)
    return found


@triton.jit
def _taps(w, row, chunk: tl.constexpr, GEOMETRY: tl.constexpr):
    """A row of the kernel, (rows, BC) for each tap: as `_channel` reads."""
    C: tl.constexpr = GEOMETRY[0]
    KH: tl.constexpr = GEOMETRY[3]
    KW: tl.constexpr = GEOMETRY[4]
    ROWS: tl.constexpr = GEOMETRY[10]
    BC: tl.constexpr = GEOMETRY[11]
    WALK: tl.constexpr = GEOMETRY[12]
    c = (tl.program_id(1) + chunk) * BC + tl.arange(0, BC)
    row = row + tl.zeros((ROWS,), tl.int32)
    at = w + (row[:, None] * (KW * C) + c[None, :])
    taps = ()
    for j in tl.static_range(KW):
        if C % BC == 0 and WALK != _SPREAD:
            taps = taps + (tl.load(at + j * C),)
        else:
            taps = taps + (tl.load(at + j * C, (row < KH)[:, None] & (c < C)[None, :], 0.0),)
    return taps


@triton.jit
def _add(sums, line, taps, DOWN: tl.constexpr, GEOMETRY: tl.constexpr):
    """A row of the kernel times what it reaches of a line of x, added to the results of a line of the rectangle.

    A product and its addition are one operation of the text: what a compiler does with it grows as its square.
    """
    SW: tl.constexpr = GEOMETRY[5]
    RIGHT: tl.constexpr = GEOMETRY[9]
    added = ()
    for r in tl.static_range(len(sums)):
        total = sums[r]
        if r // RIGHT == DOWN:
            for j in tl.static_range(len(taps)):
                total = tl.fma(line[r % RIGHT * SW + j], taps[j], total)
        added = added + (total,)
    return added
