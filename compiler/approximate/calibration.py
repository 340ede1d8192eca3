"""Calibration samples: read once, split once, and the split recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import TamagoError
from ..facts import Array

SMALLEST = 4  # samples: below, neither part could say anything


@dataclass(frozen=True)
class Sample:
    """One item of the owner's calibration: inputs by graph name, and whatever the loss needs."""

    feeds: Mapping[str, Array]
    target: Any


@dataclass(frozen=True)
class Split:
    """The part to choose on, the part to prove on, and where each sample of the first came from."""

    choose: Sequence[Sample]
    verify: Sequence[Sample]
    chosen: tuple[int, ...]


def read_samples(calibration: Iterable[Any], flatten: Callable[[Any], Mapping[str, Array]]) -> list[Sample]:
    """Samples from `(inputs, target)` pairs.

    Args:
        calibration: what the owner gave.
        flatten: inputs as the model takes them → arrays by graph input.

    Raises:
        TamagoError: U044, an item is no pair; U045, too few samples; what `flatten` raises, with the item's number.
    """
    samples: list[Sample] = []
    if not hasattr(calibration, "__iter__"):
        raise TamagoError("U044", f"calibration is a {type(calibration).__name__}", todo="pass (inputs, target) pairs")
    for number, item in enumerate(_yielded(calibration)):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TamagoError(
                "U044",
                "calibration must yield (inputs, target)",
                where=f"item {number}",
                todo="target may be None where the loss needs none",
            )
        try:
            samples.append(Sample(flatten(item[0]), item[1]))
        except TamagoError as error:
            where = f"item {number}" + (f", {error.where}" if error.where else "")
            raise TamagoError(error.code, error.what, where=where, why=error.why, todo=error.todo) from error
    if len(samples) < SMALLEST:
        raise TamagoError(
            "U045",
            f"calibration has {len(samples)} samples",
            todo=f"give at least {SMALLEST}, better 32 or more: half choose, half prove",
        )
    return samples


def _yielded(calibration: Iterable[Any]) -> Iterator[Any]:
    """The items, one after the other; the owner's code behind them may fail in any way."""
    number = 0
    try:
        for item in calibration:
            yield item
            number += 1
    except TamagoError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise TamagoError("U044", "the calibration failed", where=f"item {number}", why=why) from error


def split(samples: Sequence[Sample], *, metric: bool = False, seed: int = 0) -> Split:
    """Half to choose on, half to prove on, drawn at random with a fixed seed.

    With a metric a quarter chooses: gradients predict from few samples, but right or wrong takes many to prove.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    count = max((len(samples) + 1) // (4 if metric else 2), SMALLEST // 2)
    chosen = tuple(sorted(int(i) for i in order[:count]))
    rest = sorted(int(i) for i in order[count:])
    return Split([samples[i] for i in chosen], [samples[i] for i in rest], chosen)
