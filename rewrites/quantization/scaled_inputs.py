"""x·W = (x/s)·(s·W): a number for each input moves what is hard to round from the one factor to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from ...compiler.approximate.method import X
from ...compiler.facts import Array, Floats
from ...compiler.rule import Expression, Skip, op

LEAST = 1e-4  # of the mean: an input that is nearly never there is not blown up without bound
WORTH = 0.95  # of the squared error without scales: a product over the input is not free


def divided(scale: Floats) -> Expression:
    """x/s; where a normalisation makes x for nobody else, its scale takes the factor in (`fold_scales.py`)."""
    return op.Mul(X, np.reciprocal(scale).astype(np.float32))


def multiplied(weight: Array, scale: Floats) -> Array:
    """s·W, [in, out]."""
    return np.multiply(weight, scale[:, None]).astype(np.float32)


def sizes(statistic: Array, found_by: str = "calibration saw") -> Floats:
    """How large each input is by this statistic, the mean or the largest of its values; 1 where they are all zero.

    The others have a geometric mean of 1: an input that calibration did not see is treated as a usual one.

    Raises:
        Skip: there is nothing to tell inputs apart by.
    """
    found = np.asarray(statistic, np.float64)
    if not np.all(np.isfinite(found)):
        raise Skip(f"{found_by} values that are not finite")
    alive = found > 0
    if not np.any(alive):
        raise Skip(f"{found_by} nothing but zeros here")
    bounded = np.maximum(found, LEAST * float(np.mean(found)))
    return np.where(alive, bounded / np.exp(np.mean(np.log(bounded[alive]))), 1.0)


S = TypeVar("S")


def best_scales(
    inputs: S,
    halves: tuple[S, S],
    strengths: Iterable[float],
    scales: Callable[[S, float], Floats],
    error: Callable[[S, Floats], float],
) -> Floats | None:
    """The scales of the strength whose squared error is the least; None where that is about what it is without any.

    A strength is judged on samples that its scales were not made from: the largest value of few is soon exceeded.

    Args:
        inputs: what calibration saw.
        halves: the same of some samples, and of the others.
        strengths: exponents to try.
        scales: of some samples and a strength.
        error: on some samples with these scales.
    """
    found = {strength: scales(inputs, strength) for strength in strengths}
    fitted, judging = halves
    errors = {strength: error(judging, scales(fitted, strength)) for strength in found}
    best = min(errors, key=lambda strength: errors[strength])
    without = error(judging, np.ones_like(found[best]))
    return found[best] if errors[best] < WORTH * without else None
