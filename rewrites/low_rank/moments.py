"""Second moments of what enters a layer, and how far to trust those of few samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .directions import kept_by_directions

ROUNDING = 1e-12  # of E‖x‖²: a variance below is what subtracting the mean leaves of nothing
RIDGES = (0.0, 1.0, 4.0)  # the same in units of features / rows, about what noise does to eigenvalues


@dataclass(frozen=True)
class Half:
    """One half of the rows: E[xxᵀ] about some point, E[x], and how many they are."""

    second: Floats
    mean: Floats
    count: int


@dataclass(frozen=True)
class Moments:
    """Both halves: what the one suggests, the other can refute."""

    halves: tuple[Half, Half]

    @property
    def count(self) -> int:
        """Rows of both."""
        return sum(h.count for h in self.halves)

    @cached_property
    def mean(self) -> Floats:
        """E[x] over all rows: [features]."""
        return np.sum([h.mean * h.count for h in self.halves], axis=0) / max(self.count, 1)

    @cached_property
    def second(self) -> Floats:
        """E[xxᵀ] over all rows, or the covariance: [features, features]."""
        return np.sum([h.second * h.count for h in self.halves], axis=0) / max(self.count, 1)

    def centred(self) -> Moments:
        """About the mean of all rows.

        Raises:
            Skip: they are all the same, up to rounding.
        """
        middle = self.mean
        first, other = (
            replace(h, second=h.second - np.outer(h.mean, middle) - np.outer(middle, h.mean - middle))
            for h in self.halves
        )
        result = Moments((first, other))
        power = float(np.trace(self.second))
        if power > 0 and float(np.trace(result.second)) <= ROUNDING * power:
            raise Skip("calibration saw nothing that varies here")
        return result

    def ridge(self, weight: Array, rank: int) -> float:
        """The ridge with which one half of the rows finds the directions that keep most of the other half's outputs.

        Tokens and pixels are not independent, so how many rows there are says little by itself.

        Args:
            weight: [features, outputs] of the layer.
            rank: of the approximation that is judged.

        Returns:
            In units of the diagonal's mean, for `damped` and all rows.
        """
        first, other = self.halves
        if not np.any(first.second) or not np.any(other.second):
            return RIDGES[-1] * len(self.mean) / max(self.count, 1)
        scales = [ridge * len(self.mean) / first.count for ridge in RIDGES]
        kept = kept_by_directions(weight, first.second, scales, other.second, rank)
        return RIDGES[int(np.argmax(kept))] * len(self.mean) / self.count


def moments_of(rows: Iterable[Array]) -> Moments:
    """Of samples, every other one in either half; a single one is cut in two.

    Args:
        rows: [..., features] of each sample.

    Raises:
        Skip: they hold values that are not finite.
    """
    found = [array.reshape(-1, array.shape[-1]) for array in rows]
    if len(found) == 1:
        found = [found[0][: len(found[0]) // 2], found[0][len(found[0]) // 2 :]]
    return Moments((_half(found[::2]), _half(found[1::2])))


def _half(arrays: list[Array]) -> Half:
    width = arrays[0].shape[1]
    second, total, count = np.zeros((width, width)), np.zeros(width), 0
    for array in arrays:
        rows = array.astype(np.float64)
        if not np.all(np.isfinite(rows)):
            raise Skip("calibration saw values that are not finite")
        second += rows.T @ rows
        total += rows.sum(axis=0)
        count += len(rows)
    return Half(second / max(count, 1), total / max(count, 1), count)
