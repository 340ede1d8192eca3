"""When timings of several programs say enough: not while it is open which one is worth taking."""

from __future__ import annotations

import time
from functools import partial

from tamago.compiler.timing import Timing, beside_first, clearly_fastest, clock_for, interleave, told_apart


def steady(milliseconds: float) -> Timing:
    return Timing((milliseconds,) * 12)


def scattered(milliseconds: float, part: float = 0.1) -> Timing:
    """A tenth too fast and a tenth too slow in turn."""
    return Timing((milliseconds * (1 - part), milliseconds * (1 + part)) * 6)


def test_what_is_slower_beyond_doubt_or_as_fast_beyond_doubt_needs_no_more_rounds() -> None:
    assert clearly_fastest([scattered(2.0), steady(1.0)])
    assert clearly_fastest([steady(1.0), steady(1.005), scattered(2.0)])


def test_what_may_be_worth_taking_needs_more() -> None:
    assert not clearly_fastest([scattered(1.05), steady(1.0)])
    assert not clearly_fastest([steady(2.0), steady(1.0), scattered(1.0, 0.02)])


def test_a_result_that_is_faster_than_both_and_by_a_known_ratio_needs_no_more_rounds() -> None:
    assert told_apart([steady(3.0), steady(2.0), steady(1.0)])
    assert told_apart([scattered(3.0, 0.01), scattered(2.0), steady(1.0)])


def test_a_result_that_may_be_slower_or_whose_ratio_scatters_needs_more() -> None:
    assert not told_apart([steady(3.0), scattered(1.05), steady(1.0)])
    assert not told_apart([steady(1.0), steady(2.0), steady(1.0)])
    assert not told_apart([scattered(3.0), steady(2.0), steady(1.0)])


def calls_of_three(*, racing: bool) -> list[int]:
    """How often each of three programs is called, the first of which is plainly the slowest."""
    calls = [0, 0, 0]

    def run(number: int, seconds: float) -> None:
        calls[number] += 1
        time.sleep(seconds)

    runs = [partial(run, 0, 5e-3), partial(run, 1, 1e-3), partial(run, 2, 1e-3)]
    interleave(runs, rounds=12, slot=1e-5, racing=racing)
    return calls


def test_what_is_slower_beyond_doubt_leaves_the_race() -> None:
    slow, *_ = calls_of_three(racing=True)
    assert slow < 12


def test_without_a_race_all_are_timed_alike() -> None:
    assert len(set(calls_of_three(racing=False))) == 1


def test_what_left_the_race_is_compared_over_the_rounds_it_was_in() -> None:
    # The machine is half as fast from the third round on.
    assert beside_first([Timing((4.0, 4.0)), Timing((2.0, 2.0, 4.0, 4.0, 4.0))]) == [8.0, 4.0]


def test_one_thread_is_timed_by_its_own_clock_which_waiting_does_not_move() -> None:
    (waited,) = interleave([lambda: time.sleep(0.005)], rounds=3, clock=clock_for(1))
    assert waited.median < 2.5


def test_several_threads_are_timed_by_the_walls_clock() -> None:
    assert clock_for(None) is clock_for(2) is time.perf_counter
    (waited,) = interleave([lambda: time.sleep(0.005)], rounds=3, clock=clock_for(2))
    assert waited.median >= 5
