"""What the solver announces is not the user's to read."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint

from tamago.compiler.integer_program import solve

WORTH = np.asarray([3.0, 4.0, 5.0])


def knapsack(**options: object) -> list[float]:
    found = solve(
        -WORTH,
        constraints=LinearConstraint(np.asarray([[2.0, 3.0, 4.0]]), -np.inf, 5.0),
        integrality=np.ones(3),
        bounds=Bounds(0, 1),
        options=options,
    )
    return [round(x) for x in found.x]


def test_the_best_choice_is_found() -> None:
    assert knapsack() == [1, 1, 0]


def test_nothing_is_printed_and_afterwards_all_is(capfd: pytest.CaptureFixture[str]) -> None:
    knapsack(disp=True)
    os.write(1, b"after\n")

    assert capfd.readouterr().out == "after\n"


def test_an_error_leaves_the_output_open(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="integrality"):
        solve(WORTH, constraints=(), integrality=np.ones(2), bounds=Bounds(0, 1), options={})
    os.write(1, b"after\n")

    assert capfd.readouterr().out == "after\n"
