"""Which units go: those whose loss is least for what they cost, over all groups together.

That the share each layer keeps decides more than which of its channels it keeps is what PreCropping observed (Cai et
al., Structured Pruning is All You Need for Pruning CNNs at Initialization, 2022, arXiv:2203.02549): one ranking over
all groups is what sets these shares here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.facts import Floats
from .groups import Group
from .layout import Indices

MULTIPLE = 8  # of the units of a wide group: what vector units take at once
WIDE = 32  # units from which on that matters
LEAST = 0.125  # of a group's units, that always stay


@dataclass(frozen=True)
class _Step:
    """Some more units of a group to remove."""

    group: int
    removed: int
    cost: float
    loss: float


def select(groups: Sequence[Group], scores: Sequence[Floats], costs: Sequence[float], fraction: float) -> list[Indices]:
    """For each group the units that stay, in order.

    Args:
        groups: of a program.
        scores: for each group a number for each unit: the loss without it, up to a factor that all groups share.
        costs: for each group what a unit costs.
        fraction: of the cost of all units, how much goes at most.
    """
    allowed = fraction * sum(g.units * c for g, c in zip(groups, costs, strict=True))
    removed, stopped = [0] * len(groups), set[int]()
    for step in sorted(_steps(groups, scores, costs), key=lambda s: s.loss / s.cost):
        if step.group in stopped or step.cost > allowed:
            stopped.add(step.group)
            continue
        allowed -= step.cost
        removed[step.group] = step.removed
    return [_stay(score, count) for score, count in zip(scores, removed, strict=True)]


def _steps(groups: Sequence[Group], scores: Sequence[Floats], costs: Sequence[float]) -> list[_Step]:
    found: list[_Step] = []
    for number, (group, score, cost) in enumerate(zip(groups, scores, costs, strict=True)):
        if not cost > 0:
            continue
        order = np.sort(score)
        start, least = 0, max(1, int(np.ceil(LEAST * group.units)))
        for stop in _stops(group.units, least):
            found.append(_Step(number, stop, (stop - start) * cost, float(order[start:stop].sum())))
            start = stop
    return found


def _stops(units: int, least: int) -> list[int]:
    """How many units may go: any number of a few, of many what leaves a multiple of eight."""
    if units < WIDE:
        return list(range(1, units - least + 1))
    return [units - n for n in range((units - 1) // MULTIPLE * MULTIPLE, max(least, MULTIPLE) - 1, -MULTIPLE)]


def _stay(score: Floats, removed: int) -> Indices:
    order = np.argsort(score, kind="stable")
    return np.sort(order[removed:])
