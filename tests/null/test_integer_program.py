"""What the solver announces is not the user's to read; what anybody else writes is not lost."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from scipy.optimize import Bounds, LinearConstraint

from tamago.compiler.integer_program import solve

WORTH = np.asarray([3.0, 4.0, 5.0])


def knapsack() -> list[float]:
    found = solve(
        -WORTH,
        constraints=LinearConstraint(np.asarray([[2.0, 3.0, 4.0]]), -np.inf, 5.0),
        integrality=np.ones(3),
        bounds=Bounds(0, 1),
        options={},
    )
    return [round(x) for x in found.x]


def test_the_best_choice_is_found() -> None:
    assert knapsack() == [1, 1, 0]


def test_announcements_are_left_out_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real: Any = optimize.milp

    def announcing(*args: Any, **options: Any) -> Any:
        os.write(1, b"before\nHighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();\nbeside")
        return real(*args, **options)

    monkeypatch.setattr(optimize, "milp", announcing)
    print("first")
    assert knapsack() == [1, 1, 0]
    os.write(1, b" after\n")

    assert capfd.readouterr().out == "first\nbefore\nbeside after\n"


def test_an_error_leaves_the_output_open(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="integrality"):
        solve(WORTH, constraints=(), integrality=np.ones(2), bounds=Bounds(0, 1), options={})
    os.write(1, b"after\n")

    assert capfd.readouterr().out == "after\n"
