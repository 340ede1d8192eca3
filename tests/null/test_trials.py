"""Programs side by side: what differs from the first, or does not run, is no candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tamago.compiler.timing import Timing
from tamago.compiler.trials import Run, Tried, time_alike

Y = np.arange(4, dtype=np.float32)


def tried(milliseconds: float, outputs: np.ndarray = Y) -> Tried:
    return (lambda: milliseconds), [outputs]


def told(runs: list[Run]) -> list[Timing]:
    """What each says it takes."""
    return [Timing((float(run()),) * 3) for run in runs]  # pyright: ignore[reportArgumentType]


def test_each_has_its_time() -> None:
    assert time_alike([tried(2.0), tried(1.0)], told) == [2.0, 1.0]


def test_what_differs_or_does_not_run_is_no_candidate() -> None:
    assert time_alike([tried(2.0), tried(0.1, Y + 1), None, tried(1.0)], told) == [2.0, float("inf"), float("inf"), 1.0]


def test_nothing_is_asked_for_where_the_first_does_not_run() -> None:
    asked: list[int] = []

    def attempts() -> Iterator[Tried | None]:
        for number in range(3):
            asked.append(number)
            yield None

    assert time_alike(attempts(), told) is None
    assert asked == [0]


def test_a_slow_moment_slows_all_alike() -> None:
    samples: Callable[[list[Run]], list[Timing]] = lambda runs: [Timing((1.0, 9.0, 1.0)), Timing((0.5, 4.5, 0.5))]  # noqa: E731
    assert time_alike([tried(1.0), tried(1.0)], samples) == [1.0, 0.5]
