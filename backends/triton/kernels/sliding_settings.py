"""Settings of the sliding depthwise kernel that are worth measuring: ranked by an estimate of their cycles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .depthwise_walks import SLIDING, SLIDING_AHEAD, Candidate
from .hopper import CACHE, LATENCY, MEMORY, PROCESSORS

RIGHT, RUNS, WARPS = (1, 2, 4, 7, 8), (1, 2, 4, 8, 16), (1, 2, 4)
PARTS = (1, 2, 4, 8)  # a picture's rows are divided into
WIDTHS = (16, 32, 64, 128, 256)
VECTORS = (1, 2, 4)  # neighbouring channels of a thread
MOST_REGISTERS, BESIDES = 240, 24  # a thread's, and those of them that hold neither sums nor taps nor elements
NEIGHBOURS = 16  # channels that come with those of a block, and of which half the programs have no use
MOST_SETTINGS, MOST_OF_A_RECTANGLE = 10, 2


def ranked(
    pixels: int,
    width: int,
    height: int,
    channels: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    *,
    summed: bool,
) -> list[tuple[float, Candidate]]:
    """A few settings, each with its cycles, the best first: no two differ only in how threads are put together.

    Args:
        pixels: this and what follows as `depthwise_settings.candidates` takes them.
        width: of a row of results.
        height: rows of results of a picture.
        channels: of the result.
        kernel: its height and width.
        strides: down, right.
        summed: whether a program's strips are all of one picture.
    """
    found: list[tuple[float, Candidate]] = []
    for candidate in _settings(width, height, channels):
        registers = registers_of(candidate, kernel, strides)
        if registers <= min(MOST_REGISTERS, 2048 // candidate[4]):
            sizes = pixels, width, height, channels, kernel, strides
            found.append((_cycles(candidate, *sizes, registers, summed=summed), candidate))
    found.sort()
    chosen: list[tuple[float, Candidate]] = []
    for cycles, candidate in found:
        alike = [c for _, c in chosen if (*c[:2], c[-1]) == (*candidate[:2], candidate[-1])]
        if len(alike) < MOST_OF_A_RECTANGLE and _vector(candidate) not in map(_vector, alike):
            chosen.append((cycles, candidate))
    return chosen[:MOST_SETTINGS]


def _settings(width: int, height: int, channels: int) -> Iterator[Candidate]:
    """All that a program can be."""
    for walk in (SLIDING, SLIDING_AHEAD):
        for right in (r for r in RIGHT if r <= width):
            for down in sorted({-(-height // parts) for parts in PARTS}):
                for runs in RUNS:
                    for block in (b for b in WIDTHS if b < 2 * channels):
                        for warps in (w for w in WARPS if runs * block / (32 * w) in VECTORS):
                            yield right, down, runs, block, warps, walk


def _vector(candidate: Candidate) -> int:
    _, _, runs, block, warps, _ = candidate
    return runs * block // (32 * warps)


def registers_of(candidate: Candidate, kernel: Sequence[int], strides: Sequence[int]) -> int:
    """About how many a thread needs: for sums, taps, and a line of x, which is wide; what is read ahead is not."""
    (high, across), vector = kernel, _vector(candidate)
    live, span = -(-high // strides[0]), (candidate[0] - 1) * strides[1] + across
    ahead = span * strides[0] * -(-vector // 2) if candidate[-1] == SLIDING_AHEAD else 0
    return vector * (live * candidate[0] + high * across + span) + ahead + BESIDES


def _cycles(
    candidate: Candidate,
    pixels: int,
    width: int,
    height: int,
    channels: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    registers: int,
    *,
    summed: bool,
) -> float:
    """About how long it takes: instructions, bytes, or waiting, whichever is most."""
    right, down, runs, block, warps, walk = candidate
    (high, across), vector = kernel, _vector(candidate)
    live, span = -(-high // strides[0]), (right - 1) * strides[1] + across
    along = -(-height // down)
    # Above and below the picture a program that has all its rows has nothing to do; others read those of the next.
    steps = down + live - 1 - (2 * (high // 2 // strides[0]) if along == 1 else 0)

    step = right * high * across * vector + span * strides[0] * (2 + vector) + right * (3 + 2 * vector) + 20
    each = steps * step + high * across * (2 + vector) + 100
    pictures, strips = -(-pixels // (width * height)), along * -(-width // right)
    programs = (pictures * -(-strips // runs) if summed else -(-pictures * strips // runs)) * -(-channels // block)
    busy = -(-programs // PROCESSORS)  # of the processor that has most
    issued = -(-busy * warps // 4) * each

    # What the program's strips beside one another both read is near, and of a line of memory its neighbours come too.
    beside = min(runs, -(-width // right))
    seen = ((beside * right - 1) * strides[1] + across) / beside * (1 + NEIGHBOURS / block)
    moved = 2 * channels * pictures * strips * (steps * strides[0] * seen + down * right + high * across / 4)
    stored = 2 * pixels * channels * (1 + strides[0] * strides[1])

    resident = max(1, min(64 // warps, 2048 // (warps * (registers + 7 & -8)), 32))
    wait = max(0, LATENCY - step) if walk == SLIDING_AHEAD else LATENCY
    chain = -(-busy // resident) * (2 * LATENCY + steps * wait + each)
    times = issued, moved / CACHE, stored / MEMORY, chain
    return max(times) + sum(times) / 8
