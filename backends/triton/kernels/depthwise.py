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

from collections.abc import Iterator, Sequence

import triton
import triton.language as tl

from .activations import activate
from .hopper import PROCESSORS

# How lines of x are read, `WALK`: in turn; in turn, each while the one before is multiplied; all before the first
# product; or each by threads of its own, whose sums are added up.
IN_TURN, AHEAD, AT_ONCE, SPREAD = range(4)
_AHEAD, _AT_ONCE, _SPREAD = tl.constexpr(AHEAD), tl.constexpr(AT_ONCE), tl.constexpr(SPREAD)  # as kernels name them
RIGHT, DOWN, RUNS, WARPS = (1, 2, 4, 7, 8), (1, 2), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16)
WIDTHS = (16, 32, 64, 128, 256, 512)
VECTORS = (2, 4, 8)  # neighbouring channels of a thread
MOST_HELD, MOST_REGISTERS = 96, 240  # results, and all that a thread holds
LARGEST = 65_000  # operations of a program's text times its reads and writes: a compiler's pass looks at all for each
LATENCY, NEAR = 700, 40  # cycles from asking memory to having, and where it lies in the processor
FULL = 4 * PROCESSORS  # programs: with fewer a warp waits for its own instructions too
CACHE = 3200  # bytes a cycle that all processors read from the second cache
MEMORY = 1700  # and from memory
MOST_CANDIDATES, MOST_OF_A_WALK, MOST_OF_A_RECTANGLE = 24, 10, 2
Candidate = tuple[int, int, int, int, int, int]


def candidates(
    pixels: int,
    width: int,
    height: int,
    channels: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    *,
    normed: bool,
    summed: bool = False,
) -> list[Candidate]:
    """Settings worth measuring: results to the right and downwards, runs of them, channels of a block, warps, `WALK`.

    Args:
        pixels: of all results.
        width: of a row of results.
        height: rows of results of a picture.
        channels: of the result.
        kernel: its height and width.
        strides: down, right.
        normed: whether a program holds all channels.
        summed: whether a program's rectangles are all of one picture.
    """
    found: list[tuple[float, Candidate]] = []
    for candidate in _settings(width, height, channels, kernel):
        sizes = pixels, width, height, channels, kernel, strides
        cycles = _cycles(candidate, *sizes, normed=normed, summed=summed)
        if cycles is not None:
            found.append((cycles, candidate))
    found.sort()
    chosen: list[Candidate] = []
    for _, candidate in found:
        # What is wrong in the estimate of a walk, or of a rectangle, is wrong for all its settings.
        alike = [c for c in chosen if c[-1] == candidate[-1]]
        if len(alike) < MOST_OF_A_WALK and sum(c[:2] == candidate[:2] for c in alike) < MOST_OF_A_RECTANGLE:
            chosen.append(candidate)
    return chosen[:MOST_CANDIDATES]


def _settings(width: int, height: int, channels: int, kernel: Sequence[int]) -> Iterator[Candidate]:
    """All that a program can be: a thread holds whole vectors."""
    parts = triton.next_power_of_2(kernel[0])
    for walk in (IN_TURN, AHEAD, AT_ONCE, SPREAD):
        for right in (r for r in RIGHT if r <= width):
            for down in (d for d in DOWN if d <= (1 if walk == SPREAD else height)):
                for runs in RUNS if walk != SPREAD else (1,):
                    rows = parts if walk == SPREAD else runs
                    for block in (b for b in WIDTHS if b < 2 * channels):
                        for warps in (w for w in WARPS if rows * block / (32 * w) in VECTORS):
                            yield right, down, runs, block, warps, walk


def _cycles(
    candidate: Candidate,
    pixels: int,
    width: int,
    height: int,
    channels: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    *,
    normed: bool,
    summed: bool,
) -> float | None:
    """About how long it takes: instructions, bytes, or waiting, whichever is most; None where it does not fit."""
    right, down, runs, block, warps, walk = candidate
    spread, (high, across) = walk == SPREAD, kernel
    vector = (triton.next_power_of_2(high) if spread else runs) * block // (32 * warps)
    blocks = -(-channels // block)
    chunks, columns = (blocks, 1) if normed else (1, blocks)
    lines, span = high + (down - 1) * strides[0], (right - 1) * strides[1] + across
    steps, rows = (1, 1) if spread else (lines, high * down)  # lines and rows of the kernel that a thread reads

    held = (right * down + summed) * vector * chunks
    waiting = {IN_TURN: 0, AHEAD: span, AT_ONCE: lines * span * chunks, SPREAD: (span + across) * chunks}[walk]
    at_work = 2 * vector if walk >= AT_ONCE else (span + across) * vector  # what is made wide
    registers = held + at_work + waiting * vector // 2 + 32
    products = right * down * across * chunks * (high if walk == AT_ONCE else 1)
    reads = (lines * span + rows * across if walk == AT_ONCE else span + down * across) * chunks
    operations = reads + chunks * (3 + right * down)
    if (
        held > MOST_HELD
        or registers > min(MOST_REGISTERS, 2048 // warps)
        or operations * (products + 2 * reads) > LARGEST
    ):
        return None

    step = span * (1.7 + vector)
    each = steps * step + rows * across * (1 + vector + right * vector)
    each = chunks * (each + 20 * steps + held / chunks * (6 + (8 if spread else 0)))
    each += 80 + (60 * right * down if normed else 0) + (steps * chunks * span * vector if walk == AHEAD else 0)
    pictures, rectangles = -(-pixels // (width * height)), -(-height // down) * -(-width // right)
    programs = (pictures * -(-rectangles // runs) if summed else pictures * rectangles / runs) * columns
    busy = -(-programs // PROCESSORS)
    issued = busy * warps * each / 4

    seen = (runs * down - 1) * strides[0] + high
    moved = programs * block * chunks * 2 * (seen * span + runs * right * down + high * across / 4)
    stored = 2 * pixels * channels * (1 + strides[0] * strides[1])

    resident = max(1, min(64 // warps, 2048 // (warps * (registers + 7 & -8)), 32))
    waits = {IN_TURN: lines * chunks, AHEAD: lines * chunks / 2, AT_ONCE: 2, SPREAD: 1.5}[walk]
    latency = NEAR + (LATENCY - NEAR) * (
        1 if spread else seen / (runs * lines)
    )  # what a run has read is near for the next
    chain = -(-programs // (PROCESSORS * resident)) * (waits * latency + (1 if programs > FULL else 2) * each)
    times = issued, moved / CACHE, stored / MEMORY, chain
    return max(times) + sum(times) / 8


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
):
    """One program: `RUNS` rectangles of `DOWN` by `RIGHT` results, `BC` channels of them (all of them with `NORMED`).

    Args:
        x: (N, H, W, C), w: (KH, KW, C), bias: (C), y: (N, HO, WO, C).
        gamma, beta: (C), of LayerNorm over the channels.
        sums_of: (N, programs of a picture, C) float32, with `SUMMED`: then none has rectangles of two pictures.
        WALK: how lines are read; with `SPREAD` one rectangle of one line of results a program.
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
