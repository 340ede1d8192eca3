"""How an exact change of a program that helps approximate ones is written down: it is made first, once.

    @preparation(paper="Xiao et al., SmoothQuant, ICML 2023, arXiv:2211.10438")
    def smoothed_normalisations(observed):
        "Norm(x, g)·W = Norm(x, g/s)·(s·W), …"
        return model

It computes the same over the reals, in the same operators, so it costs nothing; the forms of places that come after it
(`method.py`) lose less. What it makes is compared with the program before, on one sample, and left where they differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..deadline import OutOfTime
from ..errors import TamagoError
from ..progress import progress
from ..rule import Skip, family_of, statement_of
from ..verify import compare
from .calibration import Sample
from .costs import Target, lowered_copy
from .structure import Observed


@dataclass(frozen=True)
class Preparation:
    """One published way to make a program easier to approximate."""

    name: str
    family: str
    paper: str
    statement: str
    function: Callable[[Observed], ir.Model]


def preparation(*, paper: str) -> Callable[[Callable[[Observed], ir.Model]], Preparation]:
    """Declare a preparation; its docstring's first paragraph is its statement."""

    def declare(function: Callable[[Observed], ir.Model]) -> Preparation:
        return Preparation(function.__name__, family_of(function), paper, statement_of(function), function)

    return declare


@dataclass(frozen=True)
class Prepared:
    """A program, which preparations made it, and why each of the others did not: (name, reason)."""

    model: ir.Model
    done: list[str]
    refused: list[tuple[str, str]]


def prepared(
    preparations: Sequence[Preparation],
    model: ir.Model,
    target: Target,
    observe: Callable[[ir.Model], Observed],
    until: float = float("inf"),
) -> Prepared:
    """What the preparations make of a program, one after the other.

    Args:
        preparations: in order.
        model: the exact program; it is not changed.
        target: where both are run.
        observe: a program on samples.
        until: `time.perf_counter` after which none is begun.
    """
    done: list[str] = []
    refused: list[tuple[str, str]] = []
    for preparation in preparations:
        if time.perf_counter() > until:
            refused.append((preparation.name, "no time was left for it"))
            continue
        progress(preparation.name)
        observed = observe(model)
        try:
            found = preparation.function(observed)
            differs = _difference(model, found, target, _largest(observed.samples))
        except (Skip, TamagoError) as reason:
            refused.append((preparation.name, str(reason)))
            continue
        except OutOfTime:
            raise
        except Exception as error:  # one that fails on a model leaves it as it was
            refused.append((preparation.name, f"it failed: {type(error).__name__}: {error}"))
            continue
        if differs is None:
            model = found
            done.append(preparation.name)
        else:
            refused.append((preparation.name, differs))
    return Prepared(model, done, refused)


def _largest(samples: Sequence[Sample]) -> Sample:
    return max(samples, key=lambda sample: sum(np.size(a) for a in sample.feeds.values()))


def _difference(before: ir.Model, after: ir.Model, target: Target, sample: Sample) -> str | None:
    """Why a program is not the one before; None: it is, as far as rounding goes."""
    names = [output.name or "" for output in before.graph.outputs]
    wanted, found = (lowered_copy(target, model)(sample.feeds) for model in (before, after))
    worst = max(compare(names, wanted, found), key=lambda d: d.error, default=None)
    if worst is None or worst.passed:
        return None
    return f"{worst.name} differs by {worst.error:.2g} from what it was"
