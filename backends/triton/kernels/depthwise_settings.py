"""Settings of the depthwise kernels that are worth measuring: all that fit, ranked by an estimate of their cycles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import triton

from .depthwise_walks import AHEAD, AT_ONCE, IN_TURN, SLIDING, SPREAD, Candidate
from .hopper import CACHE, LATENCY, MEMORY, PROCESSORS
from .sliding_settings import ranked

RIGHT, DOWN, RUNS, WARPS = (1, 2, 4, 7, 8), (1, 2), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16)
WIDTHS = (16, 32, 64, 128, 256, 512)
VECTORS = (2, 4, 8)  # neighbouring channels of a thread
MOST_HELD, MOST_REGISTERS = 96, 240  # results, and all that a thread holds
LARGEST = 65_000  # operations of a program's text times its reads and writes: a compiler's pass looks at all for each
NEAR = 40  # cycles from asking to having what lies in the processor
FULL = 4 * PROCESSORS  # programs: with fewer a warp waits for its own instructions too
MOST_CANDIDATES, MOST_OF_A_WALK, MOST_OF_A_RECTANGLE = 24, 10, 2
UNDERESTIMATED = 1.25  # by this those that do not slide, beside those that do (measured on an H200, 64 pictures)
SLOWEST = 1.5  # what a sliding setting may take of the best other's cycles
SLIDING_IN_A_ROW, OTHERS_IN_A_ROW = 2, 3  # before one of the other kind: whoever takes only the first few has both


def parts_of(height: int, width: int, candidate: Sequence[int]) -> int:
    """Programs of a picture of results, where none has rectangles of two."""
    right, down, runs, *_ = candidate
    return -(-(-(-height // down) * -(-width // right)) // runs)


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
        normed: whether a program holds all channels: none slides then.
        summed: whether a program's rectangles are all of one picture.
    """
    found: list[tuple[float, Candidate]] = []
    for candidate in _settings(width, height, channels, kernel):
        sizes = pixels, width, height, channels, kernel, strides
        cycles = _cycles(candidate, *sizes, normed=normed, summed=summed)
        if cycles is not None:
            found.append((cycles, candidate))
    found.sort()
    chosen: list[tuple[float, Candidate]] = []
    for cycles, candidate in found:
        # What is wrong in the estimate of a walk, or of a rectangle, is wrong for all its settings.
        alike = [c for _, c in chosen if c[-1] == candidate[-1]]
        if len(alike) < MOST_OF_A_WALK and sum(c[:2] == candidate[:2] for c in alike) < MOST_OF_A_RECTANGLE:
            chosen.append((UNDERESTIMATED * cycles, candidate))
    sliding = [] if normed else ranked(pixels, width, height, channels, kernel, strides, summed=summed)
    return _merged(chosen, sliding)[:MOST_CANDIDATES]


def _merged(others: Sequence[tuple[float, Candidate]], sliding: Sequence[tuple[float, Candidate]]) -> list[Candidate]:
    """Both by their cycles, as far as neither keeps the other out, without sliding ones that are far behind."""
    queues = deque(others), deque(s for s in sliding if not others or s[0] <= SLOWEST * others[0][0])
    found: list[Candidate] = []
    while all(queues):
        slides = queues[1][0] < queues[0][0]
        most = SLIDING_IN_A_ROW if slides else OTHERS_IN_A_ROW
        if [c[-1] >= SLIDING for c in found[-most:]] == [slides] * most:
            slides = not slides
        found.append(queues[slides].popleft()[1])
    return [*found, *(c for queue in queues for _, c in queue)]


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
