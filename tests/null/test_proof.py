"""What is put to proof after a failure and after a success, with programs that rise by their level."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import onnx_ir as ir
import pytest

from tamago.compiler.approximate.acceptance import Evidence
from tamago.compiler.approximate.budget import Budget
from tamago.compiler.approximate.proof import CHEAPER, LOWER, RUNGS, Proof
from tamago.compiler.approximate.task import Found, Outcome
from tamago.compiler.deadline import OutOfTime
from tamago.compiler.errors import TamagoError

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
            original=None,
            until=float("inf"),
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

    def choose(self, tables: Any, level: float) -> Any:
        return SimpleNamespace(cost=self.cost(level))

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


def test_after_a_failure_others_are_asked_from_the_safest_on_until_one_fails() -> None:
    search = Search(lambda level: 2.0 - 50 * level)  # 1.0 at 0.02, 2.0 at 0
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    first, *rungs = search.put
    assert first == 0.02
    assert rungs == sorted(rungs)
    assert 3 <= len(rungs) <= RUNGS + 1
    assert result.level == max(level for level in rungs if level <= ALLOWED)
    assert rungs[-2] == result.level <= ALLOWED < rungs[-1] <= LOWER * 0.02
    costs = [search.cost(level) for level in rungs]
    assert all(after <= CHEAPER * before for before, after in pairwise(costs))
    assert result.attempt == search.outcome.attempts - 1


def test_all_that_is_proved_leaves_the_cheapest() -> None:
    search = Search(lambda level: 2.0 - 50 * level)
    result = proved(search, found(0.0101, 1.5))

    assert result is not None
    assert search.put[-1] == result.level < 0.0101
    assert search.cost(LOWER * 0.0101) > CHEAPER * result.cost


def test_no_proof_is_spent_on_what_is_hardly_cheaper() -> None:
    search = Search(lambda level: 2.0)
    result = proved(search, found(0.02, 1.97))

    assert result is not None
    assert len(search.put) == search.outcome.attempts == 2


def test_of_what_is_left_the_dearest_is_asked_first_after_them() -> None:
    search = Search(lambda level: 2.0)
    other: Any = SimpleNamespace(structure="narrower", methods=())
    left = [found(0.009, 1.0), found(0.0095, 0.5), found(0.03, 0.1)]
    for each in left:
        each.tables = other
    result = proved(search, found(0.02, 0.05), *left)

    assert result is left[1]
    assert search.put[-3:] == [0.009, 0.0095, 0.03]


def test_after_a_structure_the_exact_program_is_asked() -> None:
    search = Search(lambda level: 2.0 - 50 * level)
    first, other = found(0.02, 0.5), found(0.008, 1.6)
    first.tables = cast(Any, SimpleNamespace(structure="narrower", methods=()))
    result = proved(search, first, other)

    assert result is other
    assert max(search.asked) <= LOWER * 0.008


def test_none_is_begun_without_time_once_something_is_proved() -> None:
    search = Search(lambda level: 2.0 - 50 * level)
    search.task.until = 0.0
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    assert search.put == [0.02, result.level]


def test_a_safest_choice_of_no_level_does_not_end_the_search() -> None:
    search = Search(lambda level: 2.0 - 50 * level)
    within = search.within
    search.within = lambda tables, level: (
        within(tables, level) if search.asked else search.asked.append(level) or [found(0.0, 2.0)]
    )  # type: ignore[method-assign]
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    assert 0.005 < result.level <= ALLOWED


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OutOfTime, partial(TamagoError, "U046", "no number")])
def test_what_was_proved_is_kept_where_time_ends(stop: Callable[[], BaseException]) -> None:
    search = Search(lambda level: 2.0 - 50 * level)
    within = search.within

    def until_then(tables: Any, level: float) -> list[Found]:
        if len(search.put) > 2:
            raise stop()
        return within(tables, level)

    search.within = until_then  # type: ignore[method-assign]
    result = proved(search, found(0.02, 1.0))

    assert result is not None
    assert result.level == search.put[-1] <= ALLOWED
    assert any("what was proved until then" in note for note in search.outcome.notes)
    search.put.clear()
    search.within = lambda *_: (_ for _ in ()).throw(stop())  # type: ignore[method-assign]
    with pytest.raises((KeyboardInterrupt, OutOfTime, TamagoError)):
        proved(search, found(0.02, 1.0))


@pytest.mark.parametrize("level", [0.02, 0.5])
def test_nothing_is_returned_that_was_not_proved(level: float) -> None:
    search = Search(lambda level: 1.0)
    search.evidence = lambda _, level, *__, **___: Evidence(min(level, 1.0) and 1.0, 0.0, 16)  # type: ignore[method-assign]
    search.judge.evidence = search.evidence

    assert proved(search, found(level, 1.0)) is None
    assert search.outcome.attempts == 2, "the safest failed as well"


@pytest.mark.parametrize(("share", "attempts"), [(0.0, 2), (0.0018, 2), (0.003, 1), (0.02, 1)])
def test_attempts_at_which_nothing_could_be_proved_are_not_made(share: float, attempts: int) -> None:
    """Of the 5 % those after the first have less: so few answers would not do, were they all alike."""
    search = Search(lambda level: 1.0, share)
    search.within = lambda tables, level: [found(max(level, 0.02), 1.0)]  # type: ignore[method-assign]

    assert proved(search, *(found(0.02 + n / 1000, 1.0) for n in range(5))) is None
    assert search.outcome.attempts == attempts


@pytest.mark.parametrize("share", [0.001, 0.003])
def test_the_attempt_after_a_failure_is_of_what_is_safe(share: float) -> None:
    search = Search(lambda level: 1.0, share)

    result = proved(search, found(0.03, 1.0), found(0.02, 2.0), found(0.019, 3.0))

    assert (result is not None) is (share < 0.002)
    assert search.put[0] == 0.03
    assert all(level <= ALLOWED / 2 for level in search.put[1:])


def test_what_would_do_is_said() -> None:
    search = Search(lambda level: 1.0)
    search.evidence = lambda *_, **__: Evidence(0.005, 0.01, 16)  # type: ignore[method-assign]
    search.judge.evidence = search.evidence

    assert proved(search, found(0.02, 1.0)) is None
    (note,) = search.outcome.notes
    assert "16 samples do not resolve a budget of 0.01" in note
