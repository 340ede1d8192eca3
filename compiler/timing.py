"""Interleaved timing: programs take turns in one process, so that a busy machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

SLOT = 0.004  # seconds of calls a program makes in its turn
PRECISE = 0.03  # of a ratio of times, on either side: as far as one is reported
FINE = 1e-6  # seconds: the coarsest clock that calls are timed with
AS_FAST = 1.01  # a ratio of times below which no program is chosen for being faster


Clock = Callable[[], float]


def clock_for(threads: int | None) -> Clock:
    """The clock of programs on so many threads.

    On one thread, the thread's own: what else runs on the machine does not lengthen it, as it does the wall's.
    """
    alone = threads == 1 and time.get_clock_info("thread_time").resolution <= FINE
    return time.thread_time if alone else time.perf_counter


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one program: a sample a round, samples of different programs pair up by round.

    One that has fewer was left out of the last rounds.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Milliseconds of the sample in the middle."""
        return float(np.median(self.samples))

    @property
    def best(self) -> float:
        """Milliseconds of the fastest sample."""
        return min(self.samples)

    @property
    def spread(self) -> float:
        """Half the interquartile range."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(high - low) / 2


def interleave(
    runs: Sequence[Callable[[], object]],
    *,
    rounds: int = 15,
    seconds: float = 10.0,
    slot: float = SLOT,
    clock: Clock = time.perf_counter,
    enough: Callable[[list[Timing]], bool] = lambda _: False,
    racing: bool = False,
    warm: bool = False,
) -> list[Timing]:
    """Time several programs side by side.

    Args:
        runs: one call of each program.
        rounds: samples of each. Every second round goes backwards through the one before it, and pairs of rounds are
            shuffled: what a program leaves in the caches falls on all the others alike.
        seconds: no new round starts after this, but at least three are made.
        slot: seconds of calls in one turn.
        clock: what a call takes is read from it, in seconds.
        enough: asked after each round from the sixth on: whether the timings so far already decide.
        racing: from then on programs that are slower than the fastest beyond doubt are left out.
        warm: each was called before, so that the calls which show how many fill a turn are a round where one does.
    """
    deadline = time.perf_counter() + seconds
    tried = [_calls(run, slot, clock) for run in runs]
    counts = [count for count, _ in tried]
    counted = warm and max(counts, default=1) == 1
    samples: list[list[float]] = [[first] if counted else [] for _, first in tried]
    generator, order = np.random.default_rng(0), np.arange(len(runs))
    lost: set[int] = set()
    for number in range(1 if counted else 0, rounds):
        if number >= 3 and time.perf_counter() > deadline:
            break
        order = order[::-1] if number % 2 else generator.permutation(len(runs))
        for i in [i for i in order if i not in lost]:
            samples[i].append(_sample(runs[i], counts[i], clock))
        if number < 5:
            continue
        timings = [Timing(tuple(s)) for s in samples]
        if enough(timings):
            break
        if racing:
            best = min((t for i, t in enumerate(timings) if i not in lost), key=lambda t: t.median)
            lost |= {i for i, t in enumerate(timings) if paired_ratio(t, best)[1] > AS_FAST}
    return [Timing(tuple(s)) for s in samples]


def beside_first(timings: Sequence[Timing]) -> list[float]:
    """Milliseconds of each: the first one's median, times the median of each one's ratio to it, round by round.

    Where the first was left out of rounds, the first of those that were in all of them stands for it.
    """
    first = max(timings, key=lambda t: len(t.samples))
    return [first.median * paired_ratio(t, first)[0] for t in timings]


def side_by_side(runs: Sequence[Callable[[], object]], seconds: float, clock: Clock = time.perf_counter) -> list[float]:
    """Milliseconds of calls that do the same, compared round by round."""
    return beside_first(interleave(runs, rounds=9, seconds=seconds, slot=0.002, clock=clock)) if runs else []


def compared(
    runs: Sequence[Callable[[], object]], clock: Clock = time.perf_counter
) -> tuple[list[float], tuple[float, float, float]]:
    """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
    timings = interleave(runs, rounds=21, seconds=8.0, enough=told_apart, clock=clock)
    return [t.median for t in timings], paired_ratio(timings[0], timings[-1])


def decided(timings: Sequence[Timing]) -> bool:
    """Whether the second program is faster or slower than the first beyond doubt, by 2 % at least."""
    _, low, high = paired_ratio(timings[0], timings[1])
    return low > 1.02 or high < 0.98


def told_apart(timings: Sequence[Timing]) -> bool:
    """Whether the last program is faster than each of the others beyond doubt, and how much than the first to 3 %."""
    ratio, low, high = paired_ratio(timings[0], timings[-1])
    faster = low > 1.0 and all(paired_ratio(other, timings[-1])[1] > 1.0 for other in timings[1:-1])
    return faster and high - low < 2 * PRECISE * ratio


def clearly_fastest(timings: Sequence[Timing]) -> bool:
    """Whether each of the others is beyond doubt slower than the fastest program, or as fast."""
    best = min(timings, key=lambda t: t.median)
    ratios = [paired_ratio(other, best) for other in timings if other is not best]
    return all(low > 1.0 or high < AS_FAST for _, low, high in ratios)


def _calls(run: Callable[[], object], slot: float, clock: Clock) -> tuple[int, float]:
    """How many calls fill a turn, and the milliseconds of one."""
    first = _sample(run, 1, clock)
    if first > 4e3 * slot:  # one call fills the turn, however warm
        return 1, first
    once = min(_sample(run, 1, clock), _sample(run, 1, clock))
    return max(1, min(2000, int(slot * 1e3 / max(once, 1e-4)))), once


def _sample(run: Callable[[], object], count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        run()
    return (clock() - start) * 1e3 / count


def paired_ratio(base: Timing, other: Timing) -> tuple[float, float, float]:
    """How many times faster `other` is than `base`: median of the rounds' ratios and its 95 % interval (bootstrap)."""
    rounds = min(len(base.samples), len(other.samples))
    ratios = np.asarray(base.samples[:rounds]) / np.asarray(other.samples[:rounds])
    generator = np.random.default_rng(0)
    draws = np.median(generator.choice(ratios, size=(500, len(ratios))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)
