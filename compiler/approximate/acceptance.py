"""Is the measured rise within the budget? A paired, one-sided bound on samples that chose nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, sqrt

import numpy as np
from scipy import stats

LEVEL = 0.05  # of all attempts together
# Of it by the first attempt, and by all that follow together: those are made from the safest on until one fails, and so
# are wrong as often as one alone (fixed-sequence testing; Bauer, Statistics in Medicine 10, 1991).
SPENT = (0.7, 0.3)


@dataclass(frozen=True)
class Evidence:
    """A measured quantity that a budget bounds.

    Args:
        value: the estimate.
        error: its standard error.
        samples: how many pairs it rests on.
        freedom: degrees of freedom of the standard error; None: one less than samples.
        share: of a metric that counts answers, what one of them is worth; 0: it does not.

    Where few answers differ their number says little of how many would: of n that are all alike, the bound is
    −ln(level)/n (the rule of three), and what was seen goes on top.
    """

    value: float
    error: float
    samples: int
    freedom: int | None = None
    share: float = 0.0

    def upper(self, attempt: int | None = None) -> float:
        """The one-sided 95 % upper bound; for the attempt of this number that of its share of the 5 %.

        That attempts after the first are within what is allowed is sure at 95 % together; their own bounds, which are
        chosen among, nearly so.
        """
        return self.value + max(self._quantile(attempt) * self.error, -log(_level(attempt)) * self.share)

    def lower(self) -> float:
        """The one-sided 95 % lower bound."""
        return self.value - self._quantile(None) * self.error

    def samples_needed(self, allowed: float, attempt: int | None = None) -> int | None:
        """How many samples would bring the upper bound within what is allowed; None where no number would."""
        room = allowed - self.value
        if room <= 0 or self.samples < 2:
            return None
        scatter, few = self._quantile(attempt) * self.error / room, -log(_level(attempt)) * self.share / room
        return max(self.samples, ceil(self.samples * max(scatter**2, few)))

    def _quantile(self, attempt: int | None) -> float:
        freedom = self.samples - 1 if self.freedom is None else self.freedom
        if freedom < 1:
            return inf
        return float(stats.t.ppf(1 - _level(attempt), freedom))


def _level(attempt: int | None) -> float:
    return LEVEL if attempt is None else LEVEL * SPENT[min(attempt, len(SPENT)) - 1]


def paired_rise(before: Sequence[float], after: Sequence[float], *, relative: bool = True) -> Evidence:
    """Rise of the mean loss: absolute, or relative to the mean before (a ratio of means, by linearisation)."""
    first, second = np.asarray(before, float), np.asarray(after, float)
    if not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        return Evidence(inf, inf, len(first))
    count, base = len(first), float(np.mean(first))
    scale = base if relative else 1.0
    if scale <= 0:  # a ratio to it would turn a rise into a fall, or be none
        return Evidence(inf, inf, count)
    value = float(np.mean(second - first)) / scale
    residual = second - first - (value * first if relative else value)
    error = float(np.std(residual, ddof=1)) / sqrt(count) / abs(scale) if count > 1 else inf
    return Evidence(value, error, count) if np.isfinite(value) else Evidence(inf, inf, count)


def relative_square(errors: Sequence[float], norms: Sequence[float]) -> Evidence:
    """Σ‖y − y₀‖² / Σ‖y₀‖² from each sample's squares (a ratio of means, by linearisation).

    The mean of the samples' own ratios would have no bound: of a single output near zero they have no expectation.
    """
    squares, sizes = np.asarray(errors, float), np.asarray(norms, float)
    total = float(np.sum(sizes))
    if not np.all(np.isfinite(squares)) or not np.isfinite(total):
        return Evidence(inf, inf, len(squares))
    if total <= 0:
        return Evidence(0.0 if not np.any(squares) else inf, 0.0, len(squares))
    ratio = float(np.sum(squares)) / total
    if not np.isfinite(ratio):
        return Evidence(inf, inf, len(squares))
    residual = squares - ratio * sizes
    error = float(np.std(residual, ddof=1)) * sqrt(len(squares)) / total if len(squares) > 1 else inf
    return Evidence(ratio, error, len(squares))


def relative_error(errors: Sequence[float], norms: Sequence[float]) -> Evidence:
    """√(Σ‖y − y₀‖² / Σ‖y₀‖²) from each sample's squares."""
    square = relative_square(errors, norms)
    if not np.isfinite(square.value):
        return square
    value = sqrt(square.value)
    return Evidence(value, square.error / (2 * value) if value > 0 else 0.0, square.samples)


GROUPS = 20  # of a jackknife


def metric_drop(
    before: Callable[[Sequence[int]], float], after: Callable[[Sequence[int]], float], count: int, answers: int = 0
) -> Evidence:
    """Drop of a metric that sees all samples at once: its standard error by a delete-a-group jackknife.

    Where no answer differs the jackknife knows no doubt, however few there are: what one answer is worth bounds it.

    Args:
        before: the original's metric over the samples of these numbers.
        after: the same of the result.
        count: how many samples there are.
        answers: how many of them are right or wrong by themselves; 0: an error of zero is believed.
    """
    every = list(range(count))
    value = before(every) - after(every)
    groups = min(GROUPS, count)
    left_out = [[i for i in every if i % groups != g] for g in range(groups)]
    replicates = np.asarray([before(part) - after(part) for part in left_out])
    if not (np.isfinite(value) and np.all(np.isfinite(replicates))):
        return Evidence(inf, inf, count)
    error = sqrt((groups - 1) / groups * float(np.sum((replicates - replicates.mean()) ** 2)))
    return Evidence(value, error, count, groups - 1, share=abs(before(every)) / answers if answers > 0 else 0.0)
