"""Second moments of what the readers of groups are given, taken once for all choices of units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from ...compiler.approximate.structure import Observed
from ...compiler.facts import Floats
from ...compiler.rule import Skip
from .groups import Group
from .readers import Reader, reader

MOST_ROWS = 1 << 14  # looked at, over all samples
AT_ONCE = 256  # rows: xxᵀ of a single one is all memory traffic


class Gathered:
    """Rows that come a few at a time, passed on many at once.

    Args:
        add: takes rows, as many arguments as are gathered together.
    """

    def __init__(self, add: Callable[..., None]) -> None:
        self._add, self._waiting = add, list[tuple[Floats, ...]]()

    def take(self, *rows: Floats) -> None:
        """More rows, the same number in each argument."""
        self._waiting.append(rows)
        if sum(len(r[0]) for r in self._waiting) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Pass on what is left."""
        if self._waiting:
            self._add(*map(np.vstack, zip(*self._waiting, strict=True)))
        self._waiting = []


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
        if not mean.any():
            return self.second / max(self.count, 1)
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
    gathered = [tuple(Gathered(half.add) for half in each.halves) for each in found]
    for number, values in enumerate(observed.values(names) if names else ()):
        for each, halves in zip(found, gathered, strict=True):
            halves[number % 2].take(each.reader.rows(values[each.reader.x.name or ""], most))
    for half in chain.from_iterable(gathered):
        half.flush()
    return found


def _readers(group: Group) -> list[Reader]:
    found: list[Reader] = []
    for part in group.of("sink"):
        try:
            found.append(reader(part))
        except Skip:
            continue
    return found
