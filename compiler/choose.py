"""Extraction: the cheapest program in an e-graph, shared sub-terms paid once.

Greedy DAG first (a worklist over classes; each class keeps the cheapest term given what its operands' programs cost
together), then, where the block is small enough, the exact answer as an integer program solved by HiGHS: one binary a
term, operands implied by terms, cycles cut when one is found (TENSAT's order variables are far slower).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .egraph import ABSENT, Row

Cost = Callable[[int, Row], float]
EXACT_LIMIT = 2_000  # terms: beyond this the integer program costs more time than it wins
EXACT_NODES = 200  # of the solver's tree: a limit that does not depend on how busy the machine is
EXACT_SECONDS = 1.0  # for the whole integer program, cuts included: greedy is about a hundredth from the optimum
TIE = 1e-9  # a term is never free: of two programs that cost the same the one with fewer terms wins


@dataclass
class Problem:
    """What to choose from.

    Args:
        classes: canonical rows of every class (children are canonical uids).
        roots: classes the program must compute.
        free: classes that cost nothing and need nothing: inputs, and constants folded ahead of time.
        cost: a row's price in milliseconds in its class.
    """

    classes: Mapping[int, list[Row]]
    roots: tuple[int, ...]
    free: frozenset[int]
    cost: Cost
    prices: dict[Row, float] = field(default_factory=dict[Row, float])

    def price(self, uid: int, row: Row) -> float:
        """The row's price, computed once."""
        found = self.prices.get(row)
        if found is None:
            found = self.prices[row] = self.cost(uid, row) + TIE
        return found


def choose(problem: Problem, *, exact: bool = True) -> dict[int, Row]:
    """For every class of the cheapest program found, the row that computes it.

    Raises:
        ValueError: a root cannot be computed from free classes.
    """
    greedy = _greedy(problem)
    if not exact:
        return greedy
    better = _exact(problem, greedy)
    return greedy if better is None else better


def total(problem: Problem, choice: Mapping[int, Row]) -> float:
    """The program's price: each class once."""
    return sum(problem.price(uid, choice[uid]) for uid in reachable(problem, choice))


def reachable(problem: Problem, choice: Mapping[int, Row]) -> list[int]:
    """The classes a choice computes, operands first."""
    order: list[int] = []
    done: set[int] = {ABSENT} | set(problem.free)
    stack = [(uid, False) for uid in reversed(problem.roots)]
    while stack:
        uid, ready = stack.pop()
        if ready:
            order.append(uid)
        elif uid not in done:
            done.add(uid)
            stack.append((uid, True))
            stack += [(c, False) for c in reversed(choice[uid].children) if c not in done]
    return order


def _greedy(problem: Problem) -> dict[int, Row]:
    """Greedy DAG extraction: a class' cost is the set of classes its program computes, priced together."""
    parents: dict[int, list[tuple[int, Row]]] = {}
    ready: deque[tuple[int, Row]] = deque()
    for uid, rows in problem.classes.items():
        for row in rows:
            needed = [c for c in row.children if c != ABSENT and c not in problem.free]
            for child in needed:
                parents.setdefault(child, []).append((uid, row))
            if not needed:
                ready.append((uid, row))
    best: dict[int, tuple[float, dict[int, float], Row]] = {}
    queued = set(ready)
    while ready:
        uid, row = ready.popleft()
        queued.discard((uid, row))
        found = _program(problem, best, uid, row)
        if found is None or (uid in best and found[0] >= best[uid][0]):
            continue
        best[uid] = (*found, row)
        for parent in parents.get(uid, ()):
            if parent not in queued:
                queued.add(parent)
                ready.append(parent)
    missing = [r for r in problem.roots if r not in best and r not in problem.free and r != ABSENT]
    if missing:
        raise ValueError(f"{len(missing)} results cannot be computed from the block's inputs")
    return {uid: row for uid, (_, _, row) in best.items()}


def _program(
    problem: Problem, best: Mapping[int, tuple[float, dict[int, float], Row]], uid: int, row: Row
) -> tuple[float, dict[int, float]] | None:
    """Price and contents of the row's program; None while an operand has none, or when it would need itself."""
    needed = [c for c in dict.fromkeys(row.children) if c != ABSENT and c not in problem.free]
    if any(c not in best or uid in best[c][1] for c in needed):
        return None
    contents: dict[int, float] = {}
    for child in sorted(needed, key=lambda c: -len(best[c][1])):
        contents = dict(best[child][1]) if not contents else contents | best[child][1]
    contents[uid] = problem.price(uid, row)
    return sum(contents.values()), contents


def _exact(problem: Problem, greedy: Mapping[int, Row]) -> dict[int, Row] | None:
    """The optimum by integer programming; None when the block is too large or time runs out without gain."""
    classes = _relevant(problem)
    rows = [(uid, row) for uid, found in classes.items() for row in found]
    if len(rows) > EXACT_LIMIT or all(len(found) == 1 for found in classes.values()):
        return None
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.sparse import csr_array

    from .integer_program import solve

    number = {entry: i for i, entry in enumerate(rows)}
    prices = np.asarray([problem.price(uid, row) for uid, row in rows])
    lines = _constraints(problem, classes, number)
    for circle in _circles(classes):
        lines += _cuts(classes, number, circle)
    deadline = time.perf_counter() + EXACT_SECONDS
    while (left := deadline - time.perf_counter()) > 0:
        data, where, at = zip(*((v, i, j) for i, (line, _) in enumerate(lines) for j, v in line.items()), strict=True)
        least: Any = [bound for _, bound in lines]  # Any: scipy has no types, and its default makes `lb` look a float
        matrix = csr_array((data, (where, at)), shape=(len(lines), len(rows)))
        result = solve(
            prices,
            integrality=np.ones(len(rows)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(matrix, lb=least),
            options={"time_limit": left, "node_limit": EXACT_NODES, "mip_rel_gap": 1e-4},
        )
        if result.x is None:
            return None
        choice = {uid: row for (uid, row), x in zip(rows, result.x, strict=True) if x > 0.5}
        cycle = _cycle(problem, choice)
        if cycle is None:
            return choice if total(problem, choice) < total(problem, greedy) else None
        lines += _cuts(classes, number, cycle)
    return None


def _relevant(problem: Problem) -> dict[int, list[Row]]:
    """The classes that some program for the roots could use."""
    found: dict[int, list[Row]] = {}
    stack = [r for r in problem.roots if r not in problem.free and r != ABSENT]
    while stack:
        uid = stack.pop()
        if uid in found:
            continue
        found[uid] = [r for r in problem.classes[uid] if uid not in r.children]
        stack += [c for r in found[uid] for c in r.children if c not in problem.free and c != ABSENT]
    return found


def _constraints(
    problem: Problem, classes: Mapping[int, list[Row]], number: Mapping[tuple[int, Row], int]
) -> list[tuple[dict[int, float], float]]:
    """Lines `Σ coefficient·x ≥ bound`: each root has a row, and what a class' rows read has one.

    A program has one row of a class: those that read a value count together, Σ readers ≤ Σ options. One line for each
    reader would admit two halves of a class with half of what they read, and a solver has to branch on that.
    """
    lines: list[tuple[dict[int, float], float]] = [
        ({number[root, row]: 1.0 for row in classes[root]}, 1.0)
        for root in dict.fromkeys(problem.roots)
        if root in classes
    ]
    for uid, found in classes.items():
        readers: dict[int, list[Row]] = {}
        for row in found:
            for child in dict.fromkeys(row.children):
                readers.setdefault(child, []).append(row)
        for child in [c for c in readers if c in classes]:
            options = {number[child, option]: 1.0 for option in classes[child]}
            lines.append((options | {number[uid, row]: -1.0 for row in readers[child]}, 0.0))
    return lines


def _circles(classes: Mapping[int, list[Row]]) -> list[list[int]]:
    """Sets of classes that can be computed from one another: each whole knot of them, and each pair."""
    needed = {uid: sorted({c for row in rows for c in row.children if c in classes}) for uid, rows in classes.items()}
    numbers = {uid: i for i, uid in enumerate(classes)}
    edges = [(numbers[u], numbers[v]) for u, children in needed.items() for v in children]
    if not edges:
        return []
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    matrix = csr_array((np.ones(len(edges)), tuple(zip(*edges, strict=True))), shape=(len(classes), len(classes)))
    _, label = connected_components(matrix, directed=True, connection="strong")
    knots: dict[int, list[int]] = {}
    for uid, number in numbers.items():
        knots.setdefault(int(label[number]), []).append(uid)
    pairs = [[u, v] for u in classes for v in needed[u] if u < v and u in needed[v]]
    return [knot for knot in knots.values() if len(knot) > 2] + pairs


def _cuts(
    classes: Mapping[int, list[Row]], number: Mapping[tuple[int, Row], int], circle: Sequence[int]
) -> list[tuple[dict[int, float], float]]:
    """Whichever class of a circle is computed, some class of it is computed from outside: from none of the others.

    In an order in which a program can run, the first class of the circle reads no other (generalised subtour
    elimination; stronger than forbidding one cycle's rows together).
    """
    within = set(circle)
    outside = {number[u, row]: 1.0 for u in circle for row in classes[u] if not within & set(row.children)}
    lines: list[tuple[dict[int, float], float]] = []
    for uid in circle:
        inside = {number[uid, row]: -1.0 for row in classes[uid] if number[uid, row] not in outside}
        if inside:
            lines.append((outside | inside, 0.0))
    return lines


def _cycle(problem: Problem, choice: Mapping[int, Row]) -> list[int] | None:
    """Classes that need one another in a circle, if the choice has such."""
    state: dict[int, int] = {}
    for root in problem.roots:
        stack = [root]
        while stack:
            uid = stack[-1]
            if uid in problem.free or uid == ABSENT or state.get(uid) == 2:
                stack.pop()
                continue
            if state.get(uid) == 1:
                state[uid] = 2
                stack.pop()
                continue
            state[uid] = 1
            for child in choice[uid].children:
                if state.get(child) == 1:
                    path = [u for u in stack if state.get(u) == 1]
                    return path[path.index(child) :]
                stack.append(child)
    return None
