"""A program measured on samples: what the owner's budget bounds, with its standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np

from ..errors import TamagoError
from ..torch_tensors import to_numpy, to_torch
from .acceptance import Evidence, metric_drop, paired_rise, relative_error, relative_square
from .budget import Budget
from .calibration import Sample, blamed_on
from .losses import LossModel
from .reference import Reference
from .stack import Program, examples, run_together, together

Scores = list[Any]  # one for each sample: a loss, (squared error, squared norm), or the outputs


@dataclass(frozen=True)
class Judge:
    """Runs programs on samples and compares.

    Args:
        budget: what is allowed.
        loss: how a sample is scored where there is no metric.
        reference: the original.
    """

    budget: Budget
    loss: LossModel
    reference: Reference

    def scores(self, program: Program, samples: Sequence[Sample], batch: int = 1) -> Scores:
        """The program's score on each sample, run in batches of so many examples."""
        found: Scores = []
        groups = together(samples, batch)
        for outputs, originals, group in zip(*self._pairs(program, groups), groups, strict=True):
            found += map(self._score, outputs, originals, group)
        return found

    def _pairs(
        self, program: Program, groups: Sequence[Sequence[Sample]]
    ) -> tuple[Iterator[list[list[Any]]], Iterator[Sequence[Any]]]:
        """The outputs of a program and of the original, as far as these matter: group by group, sample by sample."""
        if self.budget.metric is not None or not self.loss.needs_original:
            return run_together(program, groups), ([()] * len(group) for group in groups)
        if program is self.reference.program:
            first, second = tee(self.reference.outputs(groups))
            return first, second
        return run_together(program, groups), self.reference.outputs(groups)

    def evidence(self, before: Scores, after: Scores, samples: Sequence[Sample], *, proof: bool = False) -> Evidence:
        """How much worse the second scores are than the first, in the budget's own units.

        Args:
            before: of the original.
            after: of the program that is judged.
            samples: what they are scores of.
            proof: whether it is the last word: that no answer differs does then not mean that none ever will.
        """
        metric = self.budget.metric
        if metric is not None:
            targets = [s.target for s in samples]

            def over(scores: Scores) -> Callable[[Sequence[int]], float]:
                return lambda part: _number(metric([scores[i] for i in part], [targets[i] for i in part]))

            try:
                return metric_drop(over(before), over(after), len(samples), _answers(samples) if proof else 0)
            except Exception as error:  # the owner's function may fail in any way
                raise TamagoError(
                    "U046",
                    "the metric failed",
                    why=f"{type(error).__name__}: {error}",
                    todo="it is called with lists of all samples' outputs and targets, and returns a number",
                ) from error
        if self.loss.kind == "distance":
            of_squares = relative_square if self.budget.loss == "mse" else relative_error
            return of_squares([s[0] for s in after], [s[1] for s in after])
        return paired_rise(before, after, relative=not self.budget.is_absolute)

    def _score(self, outputs: Sequence[Any], wanted: Sequence[Any], sample: Sample) -> Any:
        if self.budget.metric is not None:
            return self.loss.structure(as_tensors(outputs))
        if self.loss.kind == "distance":
            return self._distance(outputs, wanted)
        if self.loss.kind == "kl":
            return self.loss.divergence(as_tensors(outputs), as_tensors(wanted))
        with blamed_on(sample):
            return self.loss.value(as_tensors(outputs), sample.target)

    def _distance(self, outputs: Sequence[Any], wanted: Sequence[Any]) -> tuple[float, float]:
        pairs = [
            (np.asarray(a, np.float64), np.asarray(b, np.float64))
            for a, b in zip(outputs, wanted, strict=True)
            if isinstance(b, np.ndarray) and b.dtype.kind == "f"
        ]
        error = sum(float(np.sum((a - b) ** 2)) for a, b in pairs)
        return error, sum(float(np.sum(b**2)) for _, b in pairs)


def _number(found: Any) -> float:
    """A metric's value; a truth value would hide every drop but the one across its threshold."""
    if isinstance(found, bool) or str(getattr(found, "dtype", "")).endswith("bool"):
        raise TypeError(f"it returned {found}, which is no number")
    return float(found)


def _answers(samples: Sequence[Sample]) -> int:
    """How many parts of the samples are right or wrong by themselves: class numbers, else examples."""
    return sum(max(examples(s), _labels(s.target)) for s in samples)


def _labels(target: Any) -> int:
    array = to_numpy(target) if hasattr(target, "detach") else target
    return array.size if isinstance(array, np.ndarray) and array.dtype.kind in "iu" else 0


def as_tensors(outputs: Sequence[Any]) -> list[Any]:
    """A program's outputs as the owner's functions take them; what is no array stays."""
    return [to_torch(np.asarray(o)) if isinstance(o, (np.ndarray, np.generic)) else o for o in outputs]
