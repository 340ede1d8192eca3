"""Whether a program is worth its error: what speaks against one, and how often it is timed before that is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from tamago.compiler.approximate.gain import TIMINGS, Sides
from tamago.compiler.approximate.task import WorkloadTime


def program(size: int) -> ir.Model:
    value = ir.Value(name="w", const_value=ir.tensor(np.zeros(size // 4, np.float32), name="w"))
    return ir.Model(ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 23}), ir_version=10)


class Clock:
    """Says what it is told to, one timing after the other; the last for ever."""

    timed = True

    def __init__(self, *results: tuple[float, float, float]) -> None:
        self.results = list(results)
        self.asked = 0

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        self.asked += 1
        ratio, low, high = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        return [1.0, 1.0, 1.0 / ratio], (ratio, low, high)


def sides(clock: Clock, *, size: bool, latency: float | None = None) -> Sides:
    workload = cast(Any, SimpleNamespace(feeds={}, weight=1.0))
    return Sides(lambda feeds: [], lambda feeds: [], cast(Any, clock), [workload], size, 4000, latency)


def time(ratio: float, low: float, high: float) -> WorkloadTime:
    return WorkloadTime(1.0, 1.0, 1.0, 1.0 / ratio, ratio, low, high)


def test_smaller_and_no_slower_is_worth_it() -> None:
    assert sides(Clock((1, 1, 1)), size=True).refuses(program(400), [time(1.0, 0.9, 1.1)]) is None


def test_slower_by_noise_alone_is_worth_it() -> None:
    assert sides(Clock((1, 1, 1)), size=True).refuses(program(400), [time(0.97, 0.92, 1.02)]) is None


def test_smaller_but_slower_is_refused_with_the_figure() -> None:
    reason = sides(Clock((1, 1, 1)), size=True).refuses(program(400), [time(0.89, 0.86, 0.99)])
    assert reason is not None
    assert "0.89x" in reason


def test_as_large_as_before_is_refused() -> None:
    assert sides(Clock((1, 1, 1)), size=True).refuses(program(4000), [time(2.0, 1.9, 2.1)]) is not None


def test_faster_is_worth_it_where_time_counts_and_equal_is_not() -> None:
    by_time = sides(Clock((1, 1, 1)), size=False)
    assert by_time.refuses(program(4000), [time(1.2, 1.1, 1.3)]) is None
    assert by_time.refuses(program(400), [time(1.0, 0.9, 1.1)]) is not None
    assert by_time.refuses(program(400), [time(1.01, 0.99, 1.03)]) is not None, "error is not spent on noise"


def test_what_may_be_slower_for_all_that_the_clock_tells_is_refused() -> None:
    by_time = sides(Clock((1, 1, 1)), size=False)

    assert by_time.refuses(program(400), [time(1.04, 1.01, 1.07)]) is None
    reason = by_time.refuses(program(400), [time(1.04, 0.99, 1.09)])
    assert reason is not None
    assert "may be no faster" in reason
    several = [time(1.04, 0.99, 1.09), time(2.0, 1.8, 2.2)]
    assert by_time.refuses(program(400), several) is None, "what all of them take counts"


def test_the_cap_on_latency_holds() -> None:
    reason = sides(Clock((1, 1, 1)), size=False, latency=0.5).refuses(program(400), [time(1.2, 1.1, 1.3)])
    assert reason is not None
    assert "0.5 ms" in reason


def test_a_loss_is_believed_when_it_is_measured_twice() -> None:
    clock = Clock((0.8, 0.7, 0.9), (1.1, 1.0, 1.2))
    (found,) = sides(clock, size=True).times(program(400), lambda feeds: [])
    assert found.ratio == 1.1
    assert clock.asked == TIMINGS

    clock = Clock((1.1, 1.0, 1.2))
    sides(clock, size=True).times(program(400), lambda feeds: [])
    assert clock.asked == 1


def test_without_a_clock_only_bytes_count() -> None:
    clock = Clock((0.5, 0.4, 0.6))
    clock.timed = False
    found = sides(clock, size=True)

    assert found.times(program(100), lambda feeds: []) == []
    assert clock.asked == 0
    assert found.refuses(program(100), []) is None
    assert found.refuses(program(5000), []) == "is not smaller than the exact one"
