"""y = after(act₂(act₁(depthwise convolution of x, plus b₁)·w₂ᵀ + b₂) + r), channels last: both convolutions in one.

The depthwise result never reaches memory. A program owns `BM` rectangles of neighbouring results, `DOWN` by `RIGHT`,
and walks blocks of channels: it makes the block's depthwise results, an element of x that is read once serving every
result of its rectangle that it reaches; rounds them to halves as they would be in memory; and multiplies them with the
block of w₂ on the tensor cores, one product for each place in the rectangles. Where a program does not own all columns
the depthwise results are made again for each share of them. Few tiles split the channels, as `convolution` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import triton
import triton.language as tl

from .activations import activate
from .hopper import PROCESSORS, SHARED

RECTANGLES = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2))  # to the right, downwards
RUNS, INNER, WIDTHS = (16, 32, 64, 128), (16, 32, 64), (16, 32, 64, 128)
SPLITS, WARPS = (1, 2, 4, 8, 16), (2, 4, 8)
LARGEST = 90  # products of a tensor that a program's text holds: each costs some 30 ms of compiling
HELD = 230  # registers of a thread as estimated: of more some spill
ASKED = 132  # and of those, the most that hold what has been asked for
PLACES = 1 << 31  # of parts in memory: 32-bit numbers
MOST_CANDIDATES = 24
ALIKE = 2  # settings that differ only in columns, splits and warps
AHEAD = 8  # of the best settings, those that are measured with blocks read one ahead as well
ISSUED, READ, WRITTEN = 1.6e5, 3e4, 2.5e4  # a processor's instructions and bytes in a microsecond
MULTIPLIED = 4e6  # and operations of its tensor cores
START, STEP, JOIN = 1.5, 0.8, 1.5  # microseconds of a program, of what a step waits for, of adding parts up

Tile = tuple[int, int, int, int, int, int, int, int]


def candidates(
    size: tuple[int, int, int], out: int, channels: int, kernel: tuple[int, int], strides: tuple[int, int]
) -> list[tuple[int, int, int, int, int, int, int, int, int]]:
    """Settings worth measuring: right, down, runs, inner, columns of a product, products, splits, warps, stages.

    Args:
        size: pictures, and height and width of their results.
        out: channels of the result.
        channels: of the depthwise convolution.
        kernel: height and width of its kernel.
        strides: down, right.
    """
    tiles: list[tuple[float, Tile]] = []
    for right, down in RECTANGLES:
        if right > size[2] or down > size[1] or right * down * kernel[0] * kernel[1] > LARGEST:
            continue
        count = size[0] * -(-size[1] // down) * -(-size[2] // right)
        read = ((down - 1) * strides[0] + kernel[0]) * ((right - 1) * strides[1] + kernel[1])
        for tile in _tiles(right, down, count, out, channels):
            cost = _microseconds(tile, count, out, channels, read, kernel[0] * kernel[1], strides[0] * strides[1])
            if cost is not None:
                tiles.append((cost, tile))
    found: list[tuple[int, int, int, int, int, int, int, int, int]] = []
    alike: Counter[tuple[int, ...]] = Counter()
    for _, tile in sorted(tiles):
        right, down, runs, inner, *_, split, _ = tile
        alike[tile[:4]] += 1
        if alike[tile[:4]] > ALIKE:
            continue
        found.append((*tile, 1))
        read = ((down - 1) * strides[0] + kernel[0]) * ((right - 1) * strides[1] + kernel[1])
        if len(found) <= AHEAD and channels > 2 * inner * split and 3 * read * runs * inner < SHARED:
            found.append((*tile, 2))
    return found[:MOST_CANDIDATES]


def _tiles(right: int, down: int, count: int, out: int, channels: int) -> Iterator[Tile]:
    """All tiles of this rectangle that are no larger than what there is."""
    for runs in (r for r in RUNS if r == 16 or r < 2 * count):
        for inner in (i for i in INNER if i == 16 or i < 2 * channels):
            for width, parts in _columns(out):
                tiles = -(-count // runs) * -(-out // (width * parts))
                sums = tiles * runs * right * down * width * parts
                for split in (s for s in SPLITS if s == 1 or (-(-channels // inner) >= 2 * s and s * sums < PLACES)):
                    for warps in WARPS:
                        yield right, down, runs, inner, width, parts, split, warps


def _columns(out: int) -> list[tuple[int, int]]:
    """Widths and numbers of products that cover all columns with little to spare, and those that cover a share."""
    found = {w * -(-out // w): (w, -(-out // w)) for w in WIDTHS if w == 16 or w < 2 * out}  # the widest of a sum
    whole = [(w, n) for total, (w, n) in found.items() if n <= 5 and total <= 1.2 * min(found)]
    return whole + [(w, 1) for w, n in found.values() if n > 1 and w >= 64]


def _microseconds(tile: Tile, count: int, out: int, channels: int, read: int, taps: int, moved: int) -> float | None:
    """How long the busiest processor takes, roughly; None where a thread would hold too much, or too little.

    Args:
        tile: the settings.
        count: rectangles.
        out: channels of the result.
        channels: of x.
        read: elements of x that a rectangle of results reaches.
        taps: of the kernel.
        moved: elements of x in a stride.
    """
    right, down, runs, inner, width, parts, split, warps = tile
    each, threads = right * down, 32 * warps
    block, result = runs * inner, runs * width * parts
    # Vectors of eight channels; and as the machine code shows, as much as there is room for is asked for at once.
    asked = min(read / 2 * block / threads + 4 * taps, ASKED)
    registers = asked + each * (block + result) / threads + 35
    if block < 8 * threads or runs * width < 4 * threads or registers > HELD:
        return None
    programs = -(-count // runs) * -(-out // (width * parts)) * split
    blocks = -(-channels // inner)
    steps = -(-blocks // split)
    issued = (each * (taps + 5) + 1.5 * read) * block + 8 * taps * threads
    bytes_moved = 2 * each * moved * block + inner * width * parts / 2
    step = max(issued / ISSUED, bytes_moved / READ) + 2 * each * result * inner / MULTIPLIED
    written = each * result * (2 if split == 1 else 8) / WRITTEN
    at_once = max(1, int(65536 / (threads * registers)))
    chain = START + steps * STEP + (JOIN + split * each * result * 4 / READ if split > 1 else 0)
    busy, own = -(-programs // PROCESSORS), steps * step + written
    return max(busy * own, (chain + own) * -(-busy // at_once))  # what waits is hidden behind what else is there


@triton.jit
def separable(
    x,
    taps,
    shift,
    w,
    bias,
    residual,
    y,
    partial,
    arrived,
    N: tl.constexpr,
    C: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
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
    FIRST: tl.constexpr,
    ACTIVATION: tl.constexpr,
    RESIDUAL: tl.constexpr,
    AFTER: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    BN: tl.constexpr,
    PARTS: tl.constexpr,
    SPLIT: tl.constexpr,
    ASSEMBLED: tl.constexpr,
):
    """One program: `BM` rectangles of results, `PARTS` times `BN` of their channels, a `SPLIT`th of those of x.

    Args:
        x: (N, H, W, C), taps: (KH, KW, C), shift: (C), w: (O, C), bias: (O).
        residual, y: (N, HO, WO, O).
        partial: (SPLIT, tiles, PARTS, DOWN, RIGHT, BM, BN) float32. arrived: (tiles), zeros, and again after.
        FIRST: the activation of the depthwise result.
    """
    ACROSS: tl.constexpr = (WO + RIGHT - 1) // RIGHT
    ALONG: tl.constexpr = (HO + DOWN - 1) // DOWN
    COLUMNS: tl.constexpr = (O + BN * PARTS - 1) // (BN * PARTS)
    EACH: tl.constexpr = DOWN * RIGHT
    BLOCKS: tl.constexpr = (C + BK - 1) // BK
    SHARE: tl.constexpr = (BLOCKS + SPLIT - 1) // SPLIT
    tile = tl.program_id(0)
    run = tile // COLUMNS * BM + tl.arange(0, BM)
    first = tile % COLUMNS * (BN * PARTS)
    real = run < N * ALONG * ACROSS
    picture = run // (ALONG * ACROSS)
    row = run // ACROSS % ALONG * DOWN
    column = run % ACROSS * RIGHT
    top = row * SH - PT
    left = column * SW - PL
    rows = x + ((picture * H + top) * W + left) * C
    totals = ()
    for _ in tl.static_range(PARTS * EACH):
        totals = totals + (tl.zeros((BM, BN), tl.float32),)
    start = tl.program_id(1) * SHARE
    for step in range(start, tl.minimum(start + SHARE, BLOCKS)):
        c = step * BK + tl.arange(0, BK)
        sums = _deep(rows, top, left, real, taps, shift, c, C, H, W, KH, KW, SH, SW, RIGHT, DOWN)
        halves = ()
        for r in tl.static_range(EACH):
            half = activate(sums[r], FIRST, HALF=True).to(x.dtype.element_ty)
            halves = halves + (_settled(half) if ASSEMBLED else half,)
        added = ()
        for part in tl.static_range(PARTS):
            o = first + part * BN + tl.arange(0, BN)
            block = tl.load(w + (o * C)[None, :] + c[:, None], (o < O)[None, :] & (c < C)[:, None], 0.0)
            for r in tl.static_range(EACH):
                added = added + (tl.dot(halves[r], block, totals[part * EACH + r]),)
        totals = added
    last = True
    if SPLIT > 1:
        everything = tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :]
        tiles = tl.num_programs(0)
        for q in tl.static_range(PARTS * EACH):
            own = ((tl.program_id(1) * tiles + tile) * (PARTS * EACH) + q) * (BM * BN)
            tl.store(partial + own + everything, totals[q])
        tl.debug_barrier()
        last = tl.atomic_add(arrived + tile, 1, sem="acq_rel") == SPLIT - 1
    if last:
        if SPLIT > 1:
            tl.store(arrived + tile, 0)
        for q in tl.static_range(PARTS * EACH):
            total = totals[q]
            if SPLIT > 1:
                total = tl.zeros((BM, BN), tl.float32)
                for share in range(SPLIT):
                    place = ((share * tiles + tile) * (PARTS * EACH) + q) * (BM * BN)
                    total += tl.load(partial + place + everything, cache_modifier=".cg")
            o = first + q // EACH * BN + tl.arange(0, BN)
            total += tl.load(bias + o, o < O, 0.0).to(tl.float32)[None, :]
            total = activate(total, ACTIVATION, HALF=True)
            i = row + q % EACH // RIGHT
            j = column + q % RIGHT
            places = (((picture * HO + i) * WO + j) * O)[:, None] + o[None, :]
            written = (real & (i < HO) & (j < WO))[:, None] & (o < O)[None, :]
            if RESIDUAL:
                total += tl.load(residual + places, written, 0.0).to(tl.float32)
            total = activate(total, AFTER, HALF=True)
            tl.store(y + places, total.to(y.dtype.element_ty), written)


@triton.jit
def _settled(half):
    """The same numbers, which the compiler takes to be read where they are made.

    Else it moves what the tensor cores want of an operand's layout ahead of all that made it: each of the taps would go
    through shared memory with two barriers, and not the sum of them once.
    """
    return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [half], dtype=half.dtype, is_pure=False, pack=2)


@triton.jit
def _deep(
    rows,
    top,
    left,
    real,
    taps,
    shift,
    c,
    C: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
):
    """The depthwise results of these channels, line by line of each rectangle: tensors of (BM, BK) float32."""
    SPAN: tl.constexpr = (RIGHT - 1) * SW + KW
    known = c < C
    factors = ()
    for tap in tl.static_range(KH * KW):
        factors = factors + (tl.load(taps + tap * C + c, known, 0.0),)
    sums = ()
    own = tl.load(shift + c, known, 0.0).to(tl.float32)[None, :]
    for _ in tl.static_range(DOWN * RIGHT):
        sums = sums + (tl.zeros((real.shape[0], c.shape[0]), tl.float32) + own,)
    places = rows[:, None] + c[None, :]
    for i in tl.static_range(KH + (DOWN - 1) * SH):
        seen = real & (top + i >= 0) & (top + i < H)
        line = ()
        for j in tl.static_range(SPAN):
            inside = (seen & (left + j >= 0) & (left + j < W))[:, None] & known[None, :]
            line = line + (tl.load(places + (i * W + j) * C, inside, 0.0).to(tl.float32),)
        sums = _add(sums, line, factors, i, KH, KW, SH, SW, RIGHT, DOWN)
    return sums


@triton.jit
def _add(
    sums,
    line,
    factors,
    I: tl.constexpr,  # noqa: E741
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    RIGHT: tl.constexpr,
    DOWN: tl.constexpr,
):
    """The sums with what the `I`th line that a rectangle reaches adds to them."""
    added = ()
    for r in tl.static_range(DOWN * RIGHT):
        total = sums[r]
        for tap in tl.static_range(KH * KW):
            if r // RIGHT * SH + tap // KW == I:
                total += line[r % RIGHT * SW + tap % KW] * factors[tap].to(tl.float32)[None, :]
        added = added + (total,)
    return added
