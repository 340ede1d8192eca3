"""Milliseconds on the device: captured graphs replayed in turns, timed by the device's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from ...compiler.timing import Timing

BATCH = 0.004  # seconds of replays between two readings of the clock
MOST_REPLAYS = 200


def interleave_graphs(
    runs: Sequence[Callable[[], object]],
    *,
    rounds: int = 15,
    seconds: float = 5.0,
    enough: Callable[[list[Timing]], bool] = lambda _: False,
) -> list[Timing]:
    """Time several calls side by side, each a replay of a captured graph.

    Args:
        runs: one call of each; they must only enqueue work.
        rounds: samples of each.
        seconds: no new round starts after this, but at least three are made.
        enough: asked after each round from the sixth on.
    """
    counts = [_replays(run) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + seconds
    for number in range(rounds):
        if number >= 3 and time.perf_counter() > deadline:
            break
        order = range(len(runs)) if number % 2 else range(len(runs) - 1, -1, -1)
        for i in order:
            samples[i].append(_sample(runs[i], counts[i]))
        if number >= 5 and enough([Timing(tuple(s)) for s in samples]):
            break
    return [Timing(tuple(s)) for s in samples]


def _replays(run: Callable[[], object]) -> int:
    _sample(run, 1)
    return max(1, min(MOST_REPLAYS, int(BATCH * 1e3 / max(_sample(run, 3), 1e-4))))


def _sample(run: Callable[[], object], count: int) -> float:
    """Milliseconds of each of so many replays, after one that keeps the device busy while the host enqueues them."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    run()
    start.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / count
