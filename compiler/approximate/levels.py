"""Levels of predicted rise: which one a choice may use, so that what is measured of it fills the budget.

Predictions add in units of their own (losses, or squares of relative errors), the judge measures in the budget's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .acceptance import Evidence
from .budget import Budget
from .judge import Scores
from .task import Found

FILL = 0.9  # of the budget, measured on the choosing samples, is enough
START = 0.7
CLEAR = 2.0  # standard errors that a measurement on the choosing samples stays below the budget


@dataclass(frozen=True)
class Levels:
    """Of one budget.

    Args:
        budget: what is allowed.
        before: the original's scores on the choosing samples; a relative rise is a part of the mean of losses.
        samples: how many samples prove.
        examples: how many examples these are.
    """

    budget: Budget
    before: Scores
    samples: int
    examples: int

    def first(self, allowed: float) -> float:
        """Where the search for a level starts."""
        if self.budget.metric is not None:
            return max(allowed, 1e-6)  # nats or relative squares: a guess that measuring corrects
        return max(START * self.in_units(allowed), 1e-12)

    @property
    def risk(self) -> float:
        """The predicted rise that is as dear as a scatter of one.

        A rise r whose examples scatter with the variance v is proved on n of them where r + z·√(v/n) is within what is
        allowed. The root lies below each of its tangents: √(v/n) ≤ v/(2nσ) + σ/2, with equality at σ; here half of what
        is allowed is left to z·σ.
        """
        allowed = self.in_units(self.budget.allowed)
        if self.budget.metric is not None or allowed <= 0:
            return 0.0
        return CLEAR**2 / (self.examples * allowed)

    def in_judged_units(self, predicted: float) -> float | None:
        """A prediction as the judge measures; None for a metric, which nothing predicts."""
        if self.budget.metric is not None:
            return None
        if self.budget.loss is None:
            return float(np.sqrt(max(predicted, 0.0)))
        return predicted if self.budget.is_absolute else predicted / float(np.mean(self.before))

    def in_units(self, evidence: float) -> float:
        """A measured quantity in the units in which predictions add."""
        if self.budget.metric is not None:
            return evidence
        if self.budget.loss is None:
            return evidence**2
        return evidence if self.budget.is_absolute else evidence * float(np.mean(self.before))

    def fit(self, evidence: Evidence, allowed: float) -> bool:
        """A rise below zero is luck: other samples will not repeat it, and they scatter as these do."""
        return bool(max(evidence.value, 0.0) <= self._room(evidence, allowed))

    def _room(self, evidence: Evidence, allowed: float) -> float:
        """How much may be measured where forms are chosen, so that the proof, which has noise of its own, succeeds.

        It is negative where the noise is larger than what is allowed: then no measurement speaks for a choice. A
        metric chooses on fewer samples than it proves on, where it will scatter less.
        """
        if self.budget.metric is not None:
            fewer = np.sqrt(evidence.samples / self.samples)
            return min(FILL * allowed, allowed - CLEAR * float(fewer) * evidence.error)
        error = evidence.error if np.isfinite(evidence.error) else allowed
        return min(FILL * allowed, allowed - CLEAR * error)

    def after(self, level: float, low: float, high: float, found: Found, allowed: float) -> float:
        """Secant step on the measured response, kept inside what is known to be too little and too much.

        Args:
            level: the last.
            low: the highest that was not too much.
            high: the lowest that was.
            found: the choice at the last.
            allowed: by the budget.
        """
        evidence = found.on_choosing
        measured = self.in_units(max(evidence.value, 0.0))
        wanted = self.in_units(max(0.95 * self._room(evidence, allowed), 0.3 * allowed))
        factor = float(np.clip(wanted / max(measured, 1e-30), 0.2, 8.0))
        step = level * factor
        if not np.isfinite(high):
            return max(step, level * 1.5)
        if low == 0.0:  # from what the choice really used of the level, or the same is chosen again
            used = min(level, max(found.level, 1e-30))
            return min(used * factor, used * 0.67, used * self._part(evidence, allowed))
        return step if low * 1.05 < step < high / 1.05 else float(np.sqrt(low * high))

    def _part(self, evidence: Evidence, allowed: float) -> float:
        """What part of a choice's level would have left so many standard errors between its rise and the bound.

        An error r times as large in the outputs raises a loss by r² but scatters it by r: v·r² + s·r = allowed. The
        relative error of the outputs itself is r times as large.
        """
        if self.budget.metric is not None:
            return 1.0
        rise, spread, bound = max(evidence.value, 0.0), CLEAR * evidence.error, 0.95 * allowed
        if not np.isfinite(spread) or rise + spread <= bound:
            return 1.0
        if self.budget.loss is None:
            return float((bound / (rise + spread)) ** 2)
        return float((2 * bound / (spread + np.sqrt(spread**2 + 4 * rise * bound))) ** 2)
