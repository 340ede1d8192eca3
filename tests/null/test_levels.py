"""How much predicted rise a choice may use: units, what fits, and the next level after a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tamago.compiler.approximate.acceptance import Evidence
from tamago.compiler.approximate.budget import Budget
from tamago.compiler.approximate.levels import CLEAR, FILL, START, Levels
from tamago.compiler.approximate.task import Found

LOSS = 2.0
BUDGETS = {
    "relative": Budget(loss="cross-entropy", rise=0.01),
    "absolute": Budget(loss="cross-entropy", absolute=0.01),
    "outputs": Budget(rise=0.01),
}
METRIC = Budget(metric=lambda outputs, targets: 1.0, drop=0.01)


def levels(budget: Budget) -> Levels:
    return Levels(budget, [LOSS - 1, LOSS + 1], 50, 100)


def measured(value: float, error: float = 0.0, level: float = 1.0) -> Found:
    choice: Sequence[Any] = []
    return Found(cast(Any, SimpleNamespace()), list(choice), level, level, None, 1.0, Evidence(value, error, 50))


@pytest.mark.parametrize(("name", "units"), [("relative", 0.01 * LOSS), ("absolute", 0.01), ("outputs", 0.01**2)])
def test_what_is_measured_is_predicted_in_units_that_add(name: str, units: float) -> None:
    found = levels(BUDGETS[name])

    assert found.in_units(0.01) == pytest.approx(units)
    assert found.in_judged_units(units) == pytest.approx(0.01)
    assert found.first(0.01) == pytest.approx(START * units)
    assert found.risk == pytest.approx(CLEAR**2 / (100 * units))


def test_a_metric_is_predicted_by_nothing_and_its_scores_need_no_mean() -> None:
    found = Levels(METRIC, [np.zeros(2), np.zeros(3)], 50, 100)  # outputs, of any shape

    assert found.in_judged_units(0.01) is None
    assert found.in_units(0.01) == found.first(0.01) == 0.01
    assert found.risk == 0.0


@pytest.mark.parametrize(
    ("value", "error", "fits"),
    [
        (FILL * 0.01, 0.0, True),
        (0.0095, 0.0, False),
        (0.005, 0.002, True),
        (0.005, 0.003, False),
        (-1.0, 0.002, True),
        (-1.0, 0.006, False),  # luck that scatters by more than is allowed
        (0.0, float("inf"), False),
    ],
)
def test_what_fits_leaves_room_for_the_noise_of_the_proof(value: float, error: float, fits: bool) -> None:
    assert levels(BUDGETS["relative"]).fit(Evidence(value, error, 50), 0.01) is fits


def test_a_metric_scatters_less_where_it_is_proved_on_more_samples() -> None:
    few, many = (Levels(METRIC, [], samples, samples) for samples in (50, 200))
    evidence = Evidence(0.004, 0.004, 50)

    assert not few.fit(evidence, 0.01)
    assert many.fit(evidence, 0.01)


@pytest.mark.parametrize("budget", [*BUDGETS.values(), METRIC])
def test_the_next_level_follows_the_measurement_and_stays_between_what_is_known(budget: Budget) -> None:
    found, infinite = levels(budget), float("inf")

    assert found.after(1.0, 1.0, infinite, measured(0.001), 0.01) >= 1.5, "far below: more"
    assert found.after(1.0, 0.0, 1.0, measured(0.1), 0.01) <= 0.67, "above: less"
    assert 0.5 < found.after(1.0, 0.5, 1.0, measured(0.1), 0.01) < 1.0
    assert found.after(1.0, 0.0, 1.0, measured(0.1, level=0.1), 0.01) <= 0.067, "of what was really used"
