"""Extraction: shared terms are paid once, cycles are never chosen, the integer program beats greedy where it can."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamago.compiler.choose import Problem, choose, reachable, total
from tamago.compiler.egraph import Row


def problem(classes: dict[int, list[tuple[str, tuple[int, ...], float]]], roots: tuple[int, ...]) -> Problem:
    """Class 1 is the only input."""
    rows = {uid: [Row(op, 0, children) for op, children, _ in found] for uid, found in classes.items()}
    prices = {(uid, op): price for uid, found in classes.items() for op, _, price in found}
    return Problem(rows, roots, frozenset({1}), lambda uid, row: prices[uid, row.op])


def test_the_cheaper_of_two_terms() -> None:
    found = choose(problem({2: [("slow", (1,), 5.0), ("fast", (1,), 1.0)]}, (2,)))

    assert found[2].op == "fast"


def test_a_shared_operand_is_paid_once() -> None:
    # Tree cost prefers 3 and 4 apart (2·3 against 2·4); together they share the expensive class 2.
    classes = {
        2: [("shared", (1,), 4.0)],
        3: [("via", (2,), 0.5), ("alone", (1,), 3.0)],
        4: [("via", (2,), 0.5), ("alone", (1,), 3.0)],
        5: [("both", (3, 4), 0.0)],
    }

    found = choose(problem(classes, (5,)))

    assert {found[3].op, found[4].op} == {"via"}


def test_cycles_are_cut() -> None:
    classes = {2: [("loop", (3,), 0.0), ("out", (1,), 9.0)], 3: [("loop", (2,), 0.0)], 4: [("root", (2, 3), 0.0)]}

    found = choose(problem(classes, (4,)))

    assert found[2].op == "out"


def test_an_unreachable_root_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be computed"):
        choose(problem({2: [("loop", (2,), 0.0)]}, (2,)))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Random acyclic and cyclic choices; every class has one term that only reads earlier classes."""
    count = draw(st.integers(2, 9))
    classes: dict[int, list[tuple[str, tuple[int, ...], float]]] = {}
    for uid in range(2, count + 2):
        size = draw(st.integers(1, 3))
        options: list[tuple[str, tuple[int, ...], float]] = []
        for k in range(size):
            highest = uid - 1 if k == 0 else count + 1
            children = tuple(draw(st.lists(st.integers(1, highest), min_size=1, max_size=2)))
            options.append((f"op{k}", children, draw(st.floats(0.01, 9.0))))
        classes[uid] = options
    return problem(classes, (count + 1,))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_exact_choice_is_acyclic_and_no_dearer_than_greedy(found: Problem) -> None:
    greedy, exact = choose(found, exact=False), choose(found)

    order = reachable(found, exact)
    position = {uid: i for i, uid in enumerate(order)}
    for uid in order:
        assert all(c == 1 or position[c] < position[uid] for c in exact[uid].children)
    assert total(found, exact) <= total(found, greedy) + 1e-6


def cheapest(found: Problem) -> float:
    """By trying every choice of a row for each class."""
    least = float("inf")
    for rows in product(*found.classes.values()):
        choice = dict(zip(found.classes, rows, strict=True))
        order = reachable(found, choice)
        position = {uid: i for i, uid in enumerate(order)}
        if all(c == 1 or position[c] < position[uid] for uid in order for c in choice[uid].children):
            least = min(least, total(found, choice))
    return least


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_exact_choice_is_the_cheapest_of_all(found: Problem) -> None:
    assert total(found, choose(found)) <= cheapest(found) * (1 + 1e-3)
