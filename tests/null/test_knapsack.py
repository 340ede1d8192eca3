"""One form for every place: the choice against all choices tried one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamago.compiler.approximate.knapsack import (
    PREFER_FAST,
    PREFER_SMALL,
    WORTH,
    WORTH_OF_BYTES,
    Limits,
    Option,
    knapsack,
)

CLOSE = 1e-6  # the solver's feasibility, relative to each limit
GAP = 2e-4  # the solver stops when it is this near to the best


@dataclass(frozen=True)
class Instance:
    """Places, weights, limits and objective of one choice."""

    places: list[list[Option]]
    weights: dict[str, int]
    limits: Limits
    size: bool

    def solve(self) -> list[int] | None:
        """What the solver picks."""
        return knapsack(self.places, self.weights, self.limits, size=self.size)

    def options(self, picked: Sequence[int]) -> list[Option]:
        """The options of these numbers."""
        return [place[i] for place, i in zip(self.places, picked, strict=True)]

    def sums(self, picked: Sequence[int]) -> tuple[float, float, float]:
        """Cost, bytes (a weight that several keep counted once) and rise."""
        chosen = self.options(picked)
        kept = {o.keeps for o in chosen if o.keeps is not None}
        stored = sum(o.stored for o in chosen) + sum(self.weights[name] for name in kept)
        return sum(o.cost for o in chosen), stored, sum(o.rise for o in chosen)

    def fits(self, picked: Sequence[int], slack: float = 0.0) -> bool:
        """Whether the sums are within the limits."""
        cost, stored, rise = self.sums(picked)
        limits = self.limits
        bounds = ((rise, limits.rise), (stored, limits.stored), (cost, limits.cost))
        return all(total <= bound + slack * max(bound, 1e-9) for total, bound in bounds)

    def objective(self, picked: Sequence[int]) -> float:
        """What is minimised."""
        cost, stored, rise = self.sums(picked)
        fastest = sum(min(o.cost for o in place) for place in self.places)
        if not self.size:
            return cost + PREFER_SMALL * stored + rise * WORTH * fastest / self.limits.worth
        smallest = float(sum(min(self.bytes_of(o) for o in place) for place in self.places))
        dear = cost * PREFER_FAST * smallest / fastest
        return stored + dear + rise * WORTH_OF_BYTES * smallest / self.limits.worth

    def bytes_of(self, option: Option) -> int:
        """What an option holds, or keeps."""
        return option.stored if option.keeps is None else self.weights[option.keeps]

    def best(self, slack: float) -> float | None:
        """The least objective of all choices that fit."""
        every = product(*(range(len(place)) for place in self.places))
        return min((self.objective(picked) for picked in every if self.fits(picked, slack)), default=None)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Few places, the first option of each exact; some weights shared, some rises infinite."""
    weights = {"a": 4000, "b": 1000, "tied": 9000}
    places: list[list[Option]] = []
    for _ in range(draw(st.integers(1, 4))):
        place = [Option(draw(st.floats(0.1, 9.0)), 0, 0.0, draw(st.sampled_from(sorted(weights))))]
        for _ in range(draw(st.integers(0, 3))):
            rise = draw(st.one_of(st.floats(1e-4, 1.0), st.just(inf)))
            place.append(Option(draw(st.floats(0.1, 9.0)), draw(st.integers(1, 5000)), rise))
        places.append(place)
    limits = Limits(
        draw(st.sampled_from([0.0, 0.01, 0.3, 1.0, 5.0])),
        stored=draw(st.sampled_from([inf, 12000.0, 5000.0])),
        cost=draw(st.sampled_from([inf, 20.0, 8.0])),
        worth=draw(st.sampled_from([inf, 1.0, 0.1])),
    )
    return Instance(places, weights, limits, draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(instances())
def test_the_choice_is_the_best_of_all_that_fit(instance: Instance) -> None:
    picked = instance.solve()

    if picked is None:
        assert instance.best(-CLOSE) is None
        return
    assert instance.fits(picked, CLOSE)
    best = instance.best(-CLOSE)  # a choice on the very edge may be taken either way
    if best is not None:
        assert instance.objective(picked) <= best + GAP * abs(best) + 1e-9


@settings(max_examples=60, deadline=None)
@given(instances())
def test_an_infinite_rise_is_never_chosen(instance: Instance) -> None:
    picked = instance.solve()

    assert picked is None or all(o.rise < inf for o in instance.options(picked))


def test_a_rise_that_is_no_number_is_never_chosen() -> None:
    assert knapsack([[Option(2.0, 0, 0.0), Option(1.0, 0, nan)]], {}, Limits(1e30), size=False) == [0]


def test_the_fastest_within_the_rise() -> None:
    place = [Option(3.0, 0, 0.0), Option(2.0, 0, 0.6), Option(1.0, 0, 2.0)]

    assert knapsack([place, place], {}, Limits(0.5), size=False) == [0, 0]
    found = knapsack([place, place], {}, Limits(1.0), size=False)
    assert found is not None
    assert sorted(found) == [0, 1]
    assert knapsack([place, place], {}, Limits(1.2), size=False) == [1, 1]
    assert knapsack([place, place], {}, Limits(4.1), size=False) == [2, 2]


def test_tiny_rises_count_as_much_as_large_ones() -> None:
    place = [Option(3.0, 0, 0.0), Option(1.0, 0, 6e-9)]

    found = knapsack([place, place], {}, Limits(1e-8), size=False)

    assert found is not None
    assert sorted(found) == [0, 1]


def test_a_shared_weight_is_stored_until_its_last_reader_is_gone() -> None:
    place = [Option(1.0, 0, 0.0, "tied"), Option(1.0, 600, 0.4)]

    # One of two readers changed: the weight is still there, and the form is stored on top of it.
    assert knapsack([place, place], {"tied": 1000}, Limits(0.5), size=True) == [0, 0]
    assert knapsack([place, place], {"tied": 1000}, Limits(1.0), size=True) == [0, 0]
    assert knapsack([place, place], {"tied": 1300}, Limits(1.0), size=True) == [1, 1]
    assert knapsack([place, place], {"tied": 1000}, Limits(1.0, stored=1000), size=True) == [0, 0]


def test_a_cap_on_bytes_is_met_at_the_price_of_time() -> None:
    place = [Option(1.0, 0, 0.0, "w"), Option(2.0, 100, 0.1)]

    assert knapsack([place], {"w": 400}, Limits(1.0), size=False) == [0]
    assert knapsack([place], {"w": 400}, Limits(1.0, stored=399), size=False) == [1]


def test_a_cap_on_time_is_met_at_the_price_of_bytes() -> None:
    place = [Option(2.0, 100, 0.1), Option(1.0, 0, 0.0, "w")]

    assert knapsack([place], {"w": 400}, Limits(1.0), size=True) == [0]
    assert knapsack([place], {"w": 400}, Limits(1.0, cost=1.5), size=True) == [1]


def test_what_a_file_has_beside_the_constants_counts_where_size_is_minimised() -> None:
    place = [Option(1.0, 0, 0.0, "w", 300), Option(1.0, 100, 0.1, beside=1500)]

    assert knapsack([place], {"w": 1000}, Limits(1.0), size=True) == [0]
    assert knapsack([place], {"w": 2000}, Limits(1.0), size=True) == [1]
    assert knapsack([place], {"w": 1000}, Limits(1.0, stored=100), size=True) == [1]


@pytest.mark.parametrize(
    "limits", [Limits(1.0, stored=50), Limits(1.0, cost=0.5), Limits(1.0, stored=0), Limits(1.0, stored=-1000)]
)
def test_limits_that_nothing_meets_leave_no_choice(limits: Limits) -> None:
    place = [Option(1.0, 0, 0.0, "w"), Option(2.0, 100, 0.1)]

    assert knapsack([place], {"w": 400}, limits, size=False) is None


def test_no_rise_allowed_and_none_that_has_none() -> None:
    assert knapsack([[Option(1.0, 0, 0.1)]], {}, Limits(0.0), size=False) is None


def test_of_equally_fast_forms_the_smaller() -> None:
    place = [Option(1.0, 4000, 0.1), Option(1.0, 1000, 0.1)]

    assert knapsack([place], {}, Limits(1.0), size=False) == [1]


def test_error_that_buys_too_little_is_not_spent() -> None:
    # The whole budget must buy WORTH of the least cost: here 0.05 · 1.0 = 0.05 milliseconds.
    def picked(saved: float) -> list[int] | None:
        place = [Option(1.0 + saved, 0, 0.0), Option(1.0, 0, 0.9)]
        return knapsack([place], {}, Limits(0.9, worth=0.9), size=False)

    assert picked(0.9 * WORTH) == [0]
    assert picked(1.1 * WORTH) == [1]


def test_error_that_buys_too_few_bytes_is_not_spent() -> None:
    def picked(saved: int) -> list[int] | None:
        place = [Option(1.0, 10_000 + saved, 0.0), Option(1.0, 10_000, 0.9)]
        return knapsack([place], {}, Limits(0.9, worth=0.9), size=True)

    assert picked(int(0.9 * WORTH_OF_BYTES * 10_000)) == [0]
    assert picked(int(1.1 * WORTH_OF_BYTES * 10_000)) == [1]


def test_error_that_buys_too_few_bytes_of_a_kept_weight_is_not_spent() -> None:
    place = [Option(1.0, 0, 0.0, "w"), Option(1.0, 9_950, 0.9)]

    assert knapsack([place], {"w": 10_000}, Limits(0.9, worth=0.9), size=True) == [0]


def test_nothing_to_choose() -> None:
    assert knapsack([], {}, Limits(1.0), size=False) == []
