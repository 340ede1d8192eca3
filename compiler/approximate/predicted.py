"""What forms are predicted to raise the loss by: one by itself, and several in one program.

To second order a loss rises by ½ E[(Σ_p Σ_t g_pt·e_pt)²], its Gauss-Newton term: the square of a sum over the places p
that change and over the positions t of what the loss judges as one. Σ_p (Σ_t g·e)² leaves out the products of two
places. Those vanish where errors have nothing to do with each other, as in K-FAC (Martens & Grosse, ICML 2015), and do
not where one weight is used several times: its error is the same in every use, and the gradients are alike. So each
form keeps its g·e one by one, and forms that stand in one program are added before they are squared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ..facts import Array, Floats
from .responses import Seen

ENOUGH_EXAMPLES = 128  # whose mean change says something
FEWEST_EXAMPLES = 8  # whose changes' variance does
FEWEST = 4  # of a program's examples whose mean change is told from its noise
CLEAR = 2.0  # standard errors that the mean change of fewer than enough has to stand above zero
MOST_TERMS = 1 << 12  # numbers kept of a form; more are folded

Key = tuple[tuple[int, int], ...]  # samples, and how many numbers each gave: what is alike can be added
Numbers = npt.NDArray[np.floating[Any]]
Parts = Mapping[Key, Numbers]


@dataclass(frozen=True)
class Predicted:
    """What forms are predicted to do: the mean rise of the loss over the samples, and how that scatters.

    `scatter` is the variance, over examples, of what they change their loss by: the proof has to see past it. To first
    order an example's loss changes by slope·e, most of which cancels in the mean. 0 where there are too few examples to
    tell.

    `moved` are numbers whose squares add up to the second-order rise, `changed` what each example's loss changes by.
    """

    rise: float = 0.0
    scatter: float = 0.0
    moved: Parts = field(default_factory=dict[Key, Numbers], compare=False, repr=False)
    changed: Parts = field(default_factory=dict[Key, Numbers], compare=False, repr=False)


def predicted(seen: Sequence[Seen], errors: Sequence[Array]) -> Predicted:
    """From each sample's error at the place's output."""
    total, moved = 0.0, list[Floats]()
    for s, e in zip(seen, errors, strict=True):
        weight = np.sqrt(s.factor / (len(s.draws) * len(seen)))
        each = [weight * (_products(g, e).reshape(-1) if s.by_position else _by_example(g, e, s)) for g in s.draws]
        moved.append(np.concatenate(each))
        total += float(np.sum(np.square(moved[-1])))
    changes = _changes(seen, errors)
    every = np.concatenate(changes) if changes else np.zeros(0)
    scatter = float(np.var(every, ddof=1)) if len(every) >= FEWEST_EXAMPLES else 0.0
    # Of few examples it is mostly noise, and the choice would pick the forms whose noise flatters them.
    first = _first_order(every) if len(every) >= ENOUGH_EXAMPLES else 0.0
    return Predicted(max(total + first, 0.0), scatter, _part(seen, moved, fold=True), _part(seen, changes))


def jointly(forms: Sequence[Predicted]) -> Predicted:
    """Of forms that stand in one program, places that no sample reached together added as if independent.

    So are forms that were predicted on other samples (weights that are not of a place). What is predicted of a place is
    the mean over the samples that reach it: of branches of an `If` that each some samples take, the sum is too much.
    """
    moved, changed = _added([f.moved for f in forms]), _added([f.changed for f in forms])
    second = sum(float(np.sum(np.square(m, dtype=np.float64))) for m in moved.values())
    scatter = sum(float(np.var(c, ddof=1)) for c in changed.values() if len(c) >= FEWEST_EXAMPLES)
    # Of few examples too, by which no form was chosen. A fall is not promised: of many, forms were chosen by it.
    first = sum(_first_order(c) for c in changed.values() if len(c) >= FEWEST)
    return Predicted(second + max(first, 0.0), scatter, moved, changed)


def _added(every: Sequence[Parts]) -> dict[Key, Numbers]:
    total: dict[Key, Numbers] = {}
    for parts in every:
        for key, part in parts.items():
            total[key] = total[key] + part if key in total else part
    return total


def _part(seen: Sequence[Seen], values: Sequence[Floats], *, fold: bool = False) -> dict[Key, Numbers]:
    if not values:
        return {}
    key = tuple((s.number, len(v)) for s, v in zip(seen, values, strict=True))
    every = np.concatenate(values)
    return {key: (_folded(every) if fold else every).astype(np.float32)}


def _folded(values: Floats) -> Floats:
    """Fewer numbers whose squares add up to the same in the mean, and those of sums too.

    Each is added, with a random sign, to one of the numbers kept: of two in one their product cancels (Charikar, Chen &
    Farach-Colton, Theoretical Computer Science 312, 2004).
    """
    if len(values) <= MOST_TERMS:
        return values
    signs = np.random.default_rng(0).choice([-1.0, 1.0], len(values)) * values
    rows = -(-len(values) // MOST_TERMS)
    return np.pad(signs, (0, rows * MOST_TERMS - len(values))).reshape(rows, MOST_TERMS).sum(axis=0)


def _first_order(changes: Numbers) -> float:
    """The mean of slope·e over the samples, shrunk towards zero by its own noise (James & Stein's positive part).

    A model that is as sure as it is right has none: the mean gradient at the true labels vanishes. Noise of one
    standard error would pass in one case of three, and of few examples it is larger than what is to be predicted.
    """
    mean, noise = float(np.mean(changes)), float(np.std(changes, ddof=1)) / sqrt(len(changes))
    clear = 1.0 if len(changes) >= ENOUGH_EXAMPLES else CLEAR
    return mean * max(0.0, 1 - (clear * noise / mean) ** 2) if mean else 0.0


def _changes(seen: Sequence[Seen], errors: Sequence[Array]) -> list[Floats]:
    """What each example's own loss changes by, to first order; empty where samples have no loss of their own.

    The slope is of a sample's mean over its examples. Positions of one example are not independent.
    """
    products = [_by_example(s.slope, e, s) for s, e in zip(seen, errors, strict=True) if s.slope is not None]
    return [len(p) * p for p in products] if len(products) == len(seen) else []


def _by_example(factor: Array, error: Array, seen: Seen) -> Floats:
    """The products summed over each example's positions, which lie on the first axis, with the examples or behind them.

    Where neither of the first two axes is one of examples, what lies along the first is taken for them.
    """
    products = _products(factor, error) if error.ndim > 1 else np.multiply(factor, error, dtype=np.float64)
    count = seen.examples
    if products.ndim > 1 and len(products) != count == products.shape[1]:
        products = np.moveaxis(products, 1, 0)
    elif not count or len(products) % count:
        count = len(products)
    return np.asarray(products.reshape(count or len(products), -1).sum(axis=1), np.float64)


def _products(factor: Array, error: Array) -> Floats:
    """Summed over features, or channels: in double past those only, for nothing here takes as long."""
    axis = -1 if error.ndim < 4 else 1
    pair: tuple[Any, Any] = np.moveaxis(factor, axis, -1), np.moveaxis(error, axis, -1)
    return np.asarray(np.einsum("...i,...i->...", *pair), np.float64)
