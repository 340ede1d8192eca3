"""Second moments of what the readers of groups are given, taken once for all choices of units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...compiler.approximate.structure import Observed
from ...compiler.facts import Floats
from ...compiler.rule import Skip
from .groups import Group
from .readers import Reader, reader

MOST_ROWS = 1 << 14  # looked at, over all samples


@dataclass
class Moments:
    """Sums over rows: their number, Σ x, Σ xxᵀ."""

    count: int
    first: Floats
    second: Floats

    def add(self, rows: Floats) -> None:
        """More rows, [positions, features]."""
        self.count += len(rows)
        self.first += rows.sum(axis=0)
        self.second += rows.T @ rows

    def mean(self, *, centred: bool) -> Floats:
        """Of the rows, or zero where nothing takes up a constant."""
        return self.first / max(self.count, 1) if centred else np.zeros_like(self.first)

    def covariance(self, mean: Floats) -> Floats:
        """About this mean, which need not be their own."""
        cross = np.outer(self.first / max(self.count, 1), mean)
        return self.second / max(self.count, 1) - cross - cross.T + np.outer(mean, mean)


def _empty(width: int) -> Moments:
    return Moments(0, np.zeros(width), np.zeros((width, width)))


@dataclass
class Reading:
    """A reader of a group, and what it is given: in every second sample, and in the others."""

    group: Group
    reader: Reader
    halves: tuple[Moments, Moments] = field(init=False)

    def __post_init__(self) -> None:
        width = len(self.reader.weight)
        self.halves = _empty(width), _empty(width)

    @property
    def whole(self) -> Moments:
        """Of all samples."""
        a, b = self.halves
        return Moments(a.count + b.count, a.first + b.first, a.second + b.second)

    @property
    def centred(self) -> bool:
        """Whether a bias takes up what is constant."""
        return self.reader.bias is not None


def readings(observed: Observed, groups: Sequence[Group]) -> list[Reading]:
    """Every product and convolution that reads units of the groups, with its moments."""
    found = [Reading(g, r) for g in groups for r in _readers(g)]
    names = sorted({f.reader.x.name or "" for f in found})
    most = max(MOST_ROWS // max(len(observed.samples), 1), 32)
    for number, values in enumerate(observed.values(names) if names else ()):
        for each in found:
            each.halves[number % 2].add(each.reader.rows(values[each.reader.x.name or ""], most))
    return found


def _readers(group: Group) -> list[Reader]:
    found: list[Reader] = []
    for part in group.of("sink"):
        try:
            found.append(reader(part))
        except Skip:
            continue
    return found
