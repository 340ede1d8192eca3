"""What is put to proof after a failure and after a success, with programs that rise by their level."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import onnx_ir as ir
import pytest

from tamago.compiler.approximate.acceptance import Evidence
from tamago.compiler.approximate.budget import Budget
from tamago.compiler.approximate.proof import ATTEMPTS, Proof
from tamago.compiler.approximate.task import Found, Outcome

ALLOWED = 0.01
TABLES: Any = SimpleNamespace(structure="", methods=())
NOTHING = Evidence(0.0, 0.0, 16)


def found(level: float, cost: float) -> Found:
    return Found(TABLES, [], level, level, None, cost, NOTHING)


class Search:
    """Choices cost what `cost` says of their level; a program's rise is its level."""

    def __init__(self, cost: Any, share: float = 0.0) -> None:
        self.cost, self.share = cost, share
        self.asked: list[float] = []
        self.put: list[float] = []
        self.outcome = Outcome()
        self.samples, self.batch, self.unseen, self.exact = 32, 1, 0.0, TABLES
        self.task = SimpleNamespace(
            budget=Budget(metric=cast(Any, len), drop=ALLOWED),
            size=False,
            workloads=[],
            split=SimpleNamespace(verify=[None] * 16),
            target=SimpleNamespace(lower=lambda level: level),  # pyright: ignore[reportUnknownLambdaType]
        )
        self.judge = SimpleNamespace(scores=lambda level, *_: level, evidence=self.evidence)  # pyright: ignore
        self.sides = SimpleNamespace(times=lambda *_: [], refuses=lambda *_: None)  # pyright: ignore

    def evidence(self, before: Any, level: float, samples: Any, *, proof: bool) -> Evidence:
        if level > before:
            self.put.append(level)
        return Evidence(level, 0.0, 16, share=self.share)

    def level_for(self, allowed: float) -> float:
        return allowed

    def within(self, tables: Any, level: float) -> list[Found]:
        self.asked.append(level)
        return [found(level, self.cost(level))]


class ProofOfLevels(Proof):
    """A program is the level it was chosen at."""

    def _laid_out(self, found: Found) -> ir.Model:
        return cast(Any, found.level)

    def _batches(self) -> list[int]:
        return [1]


def proved(search: Search, *candidates: Found) -> Found | None:
    return ProofOfLevels(cast(Any, search), ALLOWED).first_of(candidates)


def test_what_is_proved_at_once_is_returned() -> None:
    search = Search(lambda level: 1.0)
    assert proved(search, found(0.005, 1.0)) is not None
    assert search.outcome.attempts == 1
    assert search.asked == []


def test_after_a_long_step_back_the_attempts_that_are_left_are_spent_on_what_is_cheaper() -> None:
    search = Search(lambda level: 2.0 - 50 * level)  # 1.0 at 0.02, 2.0 at 0
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    first, second, third = search.put
    assert (first, search.outcome.attempts) == (0.02, ATTEMPTS)
    assert second < third == result.level <= ALLOWED
    assert result.cost < 0.9 * search.cost(second)


def test_what_fails_in_between_leaves_what_was_proved() -> None:
    search = Search(lambda level: 1.0 if level > ALLOWED else 2.0)
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    assert result.level < ALLOWED < search.put[-1] < 0.02
    assert search.outcome.attempts == ATTEMPTS


def test_no_proof_is_spent_on_what_is_hardly_cheaper() -> None:
    search = Search(lambda level: 2.0)
    result = proved(search, found(0.02, 1.9))

    assert result is not None
    assert len(search.put) == 2
    assert search.outcome.attempts == 2


@pytest.mark.parametrize("level", [0.02, 0.5])
def test_nothing_is_returned_that_was_not_proved(level: float) -> None:
    search = Search(lambda level: 1.0)
    search.evidence = lambda _, level, *__, **___: Evidence(min(level, 1.0) and 1.0, 0.0, 16)  # type: ignore[method-assign]
    search.judge.evidence = search.evidence

    assert proved(search, found(level, 1.0)) is None
    assert search.outcome.attempts == ATTEMPTS


@pytest.mark.parametrize(("share", "attempts"), [(0.0, ATTEMPTS), (0.0018, 2), (0.003, 1), (0.02, 1)])
def test_attempts_at_which_nothing_could_be_proved_are_not_made(share: float, attempts: int) -> None:
    """Of the 5 % the third has a twentieth: so few answers would not do, were they all alike."""
    search = Search(lambda level: 1.0, share)
    search.within = lambda tables, level: [found(max(level, 0.02), 1.0)]  # type: ignore[method-assign]

    assert proved(search, *(found(0.02 + n / 1000, 1.0) for n in range(5))) is None
    assert search.outcome.attempts == attempts


@pytest.mark.parametrize("share", [0.0018, 0.003])
def test_the_last_attempt_that_can_be_proved_is_of_what_is_safe(share: float) -> None:
    search = Search(lambda level: 1.0, share)

    result = proved(search, found(0.03, 1.0), found(0.02, 2.0), found(0.019, 3.0))

    assert (result is not None) is (share < 0.002)
    assert search.put[-1] <= ALLOWED / 2
    assert search.put[:-1] == ([0.03] if share < 0.002 else [])
