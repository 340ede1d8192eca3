"""What a measured rise proves: one-sided bounds, ratios of means, jackknives, against formulas and simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isinf, sqrt

import numpy as np
import pytest
from scipy import stats

from tamago.compiler.approximate.acceptance import (
    LEVEL,
    SPENT,
    Evidence,
    metric_drop,
    paired_rise,
    relative_error,
    relative_square,
)

ROUNDS = 1500
SLACK = 3 * sqrt(LEVEL * (1 - LEVEL) / ROUNDS)  # of a simulated frequency


def test_the_bound_is_one_sided_and_students() -> None:
    evidence = Evidence(0.02, 0.01, 17)

    assert evidence.upper() == pytest.approx(0.02 + stats.t.ppf(0.95, 16) * 0.01)
    assert evidence.lower() == pytest.approx(0.02 - stats.t.ppf(0.95, 16) * 0.01)


@pytest.mark.parametrize("attempt", [1, 2, 3, 6])
def test_the_first_attempt_has_its_share_of_the_level_and_all_others_theirs(attempt: int) -> None:
    evidence = Evidence(0.02, 0.01, 17)

    share = SPENT[0] if attempt == 1 else SPENT[1]
    assert evidence.upper(attempt) == pytest.approx(0.02 + stats.t.ppf(1 - 0.05 * share, 16) * 0.01)
    assert evidence.upper(attempt) > evidence.upper()


def test_the_shares_are_the_level() -> None:
    assert sum(SPENT) == pytest.approx(1.0)
    assert list(SPENT) == sorted(SPENT, reverse=True)


def test_an_error_estimated_from_few_groups_has_their_freedom() -> None:
    evidence = Evidence(0.02, 0.01, 1000, 19)

    assert evidence.upper() == pytest.approx(0.02 + stats.t.ppf(0.95, 19) * 0.01)


def test_one_sample_proves_nothing() -> None:
    evidence = paired_rise([1.0], [1.0])

    assert isinf(evidence.upper())
    assert evidence.samples_needed(0.5) is None


def test_no_spread_is_no_doubt() -> None:
    evidence = paired_rise([1.0, 2.0, 4.0], [1.1, 2.2, 4.4])

    assert evidence.upper() == pytest.approx(0.1)


@pytest.mark.parametrize("attempt", [None, 1, 3])
def test_as_many_samples_as_are_needed_bring_the_bound_within(attempt: int | None) -> None:
    evidence = Evidence(0.005, 0.02, 40)
    allowed = 0.01
    assert evidence.upper(attempt) > allowed

    needed = evidence.samples_needed(allowed, attempt)

    assert needed is not None
    enough = Evidence(0.005, 0.02 * sqrt(40 / needed), needed)
    short = Evidence(0.005, 0.02 * sqrt(40 / (needed * 0.8)), int(needed * 0.8))
    assert enough.upper(attempt) <= allowed < short.upper(attempt)


def test_no_number_of_samples_proves_what_is_not_so() -> None:
    assert Evidence(0.02, 0.001, 40).samples_needed(0.02) is None
    assert Evidence(0.03, 0.001, 40).samples_needed(0.02) is None


def test_samples_that_are_enough_already_are_not_fewer() -> None:
    assert Evidence(0.0, 0.001, 40).samples_needed(1.0) == 40


def losses(generator: np.random.Generator, count: int, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Paired losses of the usual kind: skewed, strongly correlated, the second larger by `rise` in the mean."""
    before = generator.gamma(2.0, 0.5, count)
    after = before * (1 + rise + 0.05 * generator.standard_normal(count)) + 0.02 * generator.standard_normal(count)
    return before, after


def test_an_absolute_rise_is_a_mean_difference() -> None:
    before, after = losses(np.random.default_rng(1), 64, 0.03)

    evidence = paired_rise(list(before), list(after), relative=False)

    assert evidence.value == pytest.approx(float(after.mean() - before.mean()))
    assert evidence.error == pytest.approx(float(np.std(after - before, ddof=1)) / 8)
    assert evidence.samples == 64


def test_a_relative_rise_is_a_ratio_of_means_with_the_delta_methods_error() -> None:
    before, after = losses(np.random.default_rng(2), 256, 0.03)

    evidence = paired_rise(list(before), list(after))

    ratio = float(after.mean() / before.mean())
    covariance = np.cov(after, before)
    variance = (covariance[0, 0] - 2 * ratio * covariance[0, 1] + ratio**2 * covariance[1, 1]) / before.mean() ** 2
    assert evidence.value == pytest.approx(ratio - 1)
    assert evidence.error == pytest.approx(sqrt(variance / 256))


def test_a_relative_rise_has_no_unit() -> None:
    before, after = losses(np.random.default_rng(3), 32, 0.03)

    small, large = paired_rise(list(before), list(after)), paired_rise(list(1e6 * before), list(1e6 * after))

    assert (small.value, small.error) == pytest.approx((large.value, large.error))


@pytest.mark.parametrize("relative", [True, False])
def test_a_loss_that_is_no_number_is_within_no_budget(relative: bool) -> None:
    evidence = paired_rise([1.0, 2.0, 3.0], [1.0, float("nan"), 3.0], relative=relative)

    assert evidence.upper() == inf


@pytest.mark.parametrize("before", [[0.0, 0.0, 0.0], [1.0, -3.0, 0.5]])
def test_of_a_loss_that_is_not_above_zero_no_relative_rise_is_within_a_budget(before: list[float]) -> None:
    after = [b + 0.1 for b in before]

    assert paired_rise(before, after).upper() == inf
    assert paired_rise(before, after, relative=False).value == pytest.approx(0.1)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("count", "skewed"), [(16, 0.035), (64, 0.015), (256, 0.005)])
def test_the_bound_covers_the_true_rise_19_times_in_20(relative: bool, count: int, skewed: float) -> None:
    # `skewed`: few samples of a skewed loss cover a little less, since their mean and spread go together.
    generator = np.random.default_rng([4, count])
    true = 0.03  # relative; the mean loss is 1, so absolute too

    bounds = [paired_rise(*map(list, losses(generator, count, true)), relative=relative) for _ in range(ROUNDS)]

    covered = np.mean([b.upper() >= true for b in bounds])
    covered_below = np.mean([b.lower() <= true for b in bounds])
    assert covered == pytest.approx(1 - LEVEL, abs=SLACK + skewed)
    assert covered_below == pytest.approx(1 - LEVEL, abs=SLACK + skewed)


@pytest.mark.parametrize("within", [0, 2, 6])
def test_of_all_attempts_together_one_in_twenty_is_wrong_at_most(within: int) -> None:
    """A first attempt that rises too much, and six from the safest on, of which so many rise by less than allowed."""
    generator, allowed = np.random.default_rng(5), 0.03
    rises = [0.002 * rung if rung < within else allowed for rung in range(6)]

    def is_wrong() -> bool:
        before, after = losses(generator, 64, allowed)
        if paired_rise(list(before), list(after)).upper(1) < allowed:
            return True
        scale = float(np.mean(before))
        for rise in rises:  # the same samples for all, as in a proof
            lower = np.subtract(after, (allowed - rise) * scale)
            if paired_rise(list(before), list(lower)).upper(2) > allowed:
                return False
            if rise >= allowed:
                return True
        return False

    assert np.mean([is_wrong() for _ in range(ROUNDS)]) <= LEVEL + SLACK + 0.01


def test_the_relative_error_is_that_of_all_outputs_together() -> None:
    generator = np.random.default_rng(6)
    exact = generator.standard_normal((50, 10)) * generator.uniform(0.5, 2, (50, 1))
    found = exact + 0.01 * generator.standard_normal((50, 10))

    evidence = relative_error(list(np.sum((found - exact) ** 2, 1)), list(np.sum(exact**2, 1)))

    assert evidence.value == pytest.approx(float(np.linalg.norm(found - exact) / np.linalg.norm(exact)))
    assert evidence.samples == 50


def test_the_relative_errors_own_error_is_what_repeating_shows() -> None:
    generator = np.random.default_rng(7)

    def once() -> Evidence:
        norms = generator.gamma(4.0, 1.0, 64)
        return relative_error(list(norms * generator.gamma(2.0, 5e-5, 64)), list(norms))

    repeats = [once() for _ in range(400)]

    assert np.mean([e.value for e in repeats]) == pytest.approx(0.01, rel=0.01)
    assert np.mean([e.error for e in repeats]) == pytest.approx(np.std([e.value for e in repeats]), rel=0.15)
    covered = np.mean([e.upper() >= 0.01 for e in repeats])
    assert covered >= 1 - LEVEL - 0.04


def test_no_error_is_none_and_an_error_of_nothing_is_infinite() -> None:
    assert relative_error([0.0, 0.0], [1.0, 2.0]).upper() == 0.0
    assert relative_error([0.0, 0.0], [0.0, 0.0]).upper() == 0.0
    assert relative_error([0.0, 1.0], [0.0, 0.0]).upper() == inf
    assert relative_error([float("nan"), 1.0], [1.0, 1.0]).upper() == inf
    assert relative_error([inf, 1.0], [1.0, 1.0]).upper() == inf
    assert relative_error([1.0, 1.0], [1.0, inf]).upper() == inf


def share(right: Sequence[bool] | np.ndarray) -> Callable[[Sequence[int]], float]:
    """Accuracy over some samples."""
    return lambda part: float(np.mean([right[i] for i in part]))


def test_a_drop_of_accuracy_has_the_binomial_error() -> None:
    generator = np.random.default_rng(8)
    count, repeats = 400, 200
    errors: list[float] = []
    for _ in range(repeats):
        right = generator.random(count) < 0.9
        evidence = metric_drop(share(np.ones(count, bool)), share(right), count)
        assert evidence.value == pytest.approx(1 - float(right.mean()))
        errors.append(evidence.error)

    assert np.mean(np.square(errors)) == pytest.approx(0.9 * 0.1 / count, rel=0.1)


def test_a_drop_of_accuracy_is_paired() -> None:
    generator = np.random.default_rng(9)
    before = generator.random(400) < 0.8
    after = before & (generator.random(400) >= 0.02)

    evidence = metric_drop(share(before), share(after), 400)

    lost = float(np.mean(before & ~after))
    assert evidence.value == pytest.approx(lost)
    assert evidence.error == pytest.approx(sqrt(lost * (1 - lost) / 400), rel=0.5)
    assert evidence.error < 0.5 * sqrt(2 * 0.8 * 0.2 / 400)  # what two unpaired accuracies would have


def test_a_metric_that_is_not_a_mean_has_an_error_too() -> None:
    generator = np.random.default_rng(10)
    truth = generator.random(500) < 0.3
    found = truth ^ (generator.random(500) < 0.05)

    def f1(part: Sequence[int]) -> float:
        t, f = truth[list(part)], found[list(part)]
        return float(2 * np.sum(t & f) / (np.sum(t) + np.sum(f)))

    evidence = metric_drop(lambda part: 1.0, f1, 500)
    draws = [f1(list(generator.integers(0, 500, 500))) for _ in range(400)]

    assert evidence.value == pytest.approx(1 - f1(range(500)))
    assert evidence.error == pytest.approx(float(np.std(draws)), rel=0.5)


def test_equal_results_drop_nothing_and_that_is_certain() -> None:
    right = np.random.default_rng(11).random(30) < 0.7

    evidence = metric_drop(share(right), share(right), 30)

    assert (evidence.value, evidence.error, evidence.upper(3)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("count", "enough"), [(6, False), (400, False), (700, True)])
def test_that_no_answer_of_few_differs_does_not_prove_half_a_point(count: int, enough: bool) -> None:
    right = np.ones(count, bool)

    evidence = metric_drop(share(right), share(right), count, count)

    assert evidence.value == 0.0
    assert (evidence.upper(1) <= 0.005) == enough
    needed = evidence.samples_needed(0.005, 1)
    assert needed is not None
    assert max(count, 640) <= needed <= max(count, 700)
    many = share(np.ones(needed, bool))
    assert metric_drop(many, many, needed, needed).upper(1) <= 0.005


@pytest.mark.parametrize("count", [375, 600, 750])
def test_a_drop_just_above_the_bound_is_seldom_taken_for_one_within(count: int) -> None:
    """Answers turn one at a time: of few of them neither their number nor its scatter says much."""
    generator, wrong = np.random.default_rng(13), 0
    right = np.ones(count, bool)
    for _ in range(ROUNDS):
        evidence = metric_drop(share(right), share(generator.random(count) >= 0.0051), count, count)
        wrong += evidence.upper(1) <= 0.005
    assert wrong / ROUNDS <= LEVEL * SPENT[0] + SLACK


def test_fewer_samples_than_groups_leave_out_one_each() -> None:
    right = [True, True, False, True, True, False]

    evidence = metric_drop(lambda part: 1.0, share(right), 6)

    assert evidence.error == pytest.approx(float(np.std(right, ddof=1)) / sqrt(6))


def test_the_bound_on_a_drop_covers_19_times_in_20() -> None:
    generator = np.random.default_rng(12)

    def once() -> Evidence:
        right = generator.random(200) < 0.8
        return metric_drop(lambda part: 1.0, share(right), 200)

    covered = np.mean([once().upper() >= 0.2 for _ in range(400)])

    assert covered == pytest.approx(1 - LEVEL, abs=0.04)


def test_a_mean_square_is_bounded_where_single_outputs_are_near_zero() -> None:
    """The mean of single ratios e²/y² has no expectation there: a bound on it would hold of nothing."""
    generator = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        y, e = generator.standard_normal(300), 0.1 * generator.standard_normal(300)
        evidence = relative_square(list(e**2), list(y**2))
        above += evidence.upper() < 0.01
    assert above / 400 < 0.09

    few = relative_square([0.02, 0.0], [1.0, 1.0])
    assert few.value == pytest.approx(0.01)
    assert relative_error([0.02, 0.0], [1.0, 1.0]).value == pytest.approx(0.1)
