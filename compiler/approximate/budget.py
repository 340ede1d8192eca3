"""What the owner allows and wants judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from ..errors import TamagoError

Loss = Callable[[Any, Any], Any]
Metric = Callable[[Sequence[Any], Sequence[Any]], float]


class _Unasked(float):
    """A bound that stands where none is given: any other takes its place, and contradicts one that is given."""


RISE = _Unasked(0.01)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much worse the result may be, and how small or fast it must get.

    Args:
        loss: `loss(outputs, target)` is a torch scalar, less is better, a mean over the sample; or a name:
            "cross-entropy" (outputs are logits or probabilities, targets class numbers in the place of the last axis
            or, for pictures, of the second; −100 does not count), "kl" or "mse" (distance to the original's own
            outputs, no targets needed). None: the relative error of the outputs,
            ‖y − y₀‖ / ‖y₀‖, is what `rise` bounds.
        rise: allowed relative rise of the loss (0.01 is 1 %, and is the bound where none is given). A distance to the
            original's outputs starts at zero, so for "kl" this is nats, and for "mse" a fraction of the outputs' own
            mean square.
        absolute: allowed absolute rise of the loss instead; needed where the original's loss is not above zero.
        metric: `metric(outputs, targets)` over lists of all samples' outputs and targets, more is better.
        drop: allowed absolute drop of the metric, which is the bound then.
        size: bytes of weights that the result may have at most.
        latency: milliseconds, summed over the workloads with their weights, that it may take at most.

    Raises:
        TamagoError: U040-U043, values that make no sense.
    """

    loss: Loss | str | None = None
    rise: float = RISE
    absolute: float | None = None
    metric: Metric | None = None
    drop: float | None = None
    size: int | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        """Raise U04x for values that make no sense."""
        if (self.metric is None) != (self.drop is None):
            raise TamagoError("U040", "metric and drop belong together", todo="Budget(metric=accuracy, drop=0.005)")
        if self.metric is not None and self.loss is not None:
            raise TamagoError("U041", "a budget has a loss or a metric, not both", todo="leave one out")
        bounds = [name for name in ("rise", "absolute", "drop") if self._is_given(name)]
        if len(bounds) > 1:
            raise TamagoError("U041", f"a budget has one bound, not {' and '.join(bounds)}", todo="leave one out")
        if self.metric is not None and not callable(self.metric):
            why = "it is called with lists of all samples' outputs and targets"
            raise TamagoError("U040", f"metric {self.metric!r} is no function", why=why, todo="write one")
        if self.loss is not None and self.loss not in NAMES and (isinstance(self.loss, str) or not callable(self.loss)):
            raise TamagoError(
                "U042", f"loss {self.loss!r} is unknown", todo=f"one of {', '.join(NAMES)}, or a function"
            )
        for name in ("rise", "absolute", "drop", "size", "latency"):
            value = getattr(self, name)
            missing = value is None and name != "rise"
            if not (missing or _is_bound(value)):
                raise TamagoError("U043", f"{name} is {value!r}", todo="use a number from 0")

    def _is_given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and not isinstance(value, _Unasked)

    @property
    def allowed(self) -> float:
        """The number that the judged quantity may not exceed."""
        if self.drop is not None:
            return self.drop
        return self.rise if self.absolute is None else self.absolute

    def bounds(self, rises: Sequence[float]) -> list[Budget]:
        """This budget, or one for each of these numbers in the place of what it allows.

        Raises:
            TamagoError: U043, they are no sequence of numbers from 0.
        """
        if not _is_list(rises):
            raise TamagoError("U043", f"rises is {rises!r}", todo="give several, as in [0.001, 0.01]")
        if len(rises) == 0:
            return [self]
        name = "drop" if self.drop is not None else "rise" if self.absolute is None else "absolute"
        return [replace(self, **{name: value}) for value in rises]

    @property
    def is_absolute(self) -> bool:
        """Whether the bound is on the rise itself, not on its ratio to the original's loss."""
        return self.absolute is not None or self.loss in ("kl", "mse")

    def describe(self) -> str:
        """The budget in words."""
        if self.drop is not None:
            return f"metric may drop by {self.drop:g}"
        what = "relative error of the outputs" if self.loss is None else "loss"
        if self.is_absolute:
            return f"{self.loss if isinstance(self.loss, str) else what} may rise by {self.allowed:g}"
        return f"{what} at most {self.rise:.3%}" if self.loss is None else f"{what} may rise by {self.rise:.3%}"


NAMES = ("cross-entropy", "kl", "mse")


def _is_list(value: object) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))


def _is_bound(value: Any) -> bool:
    """A finite number from 0, numpy's included; a truth value is a slip."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return bool(number and 0 <= value < inf)


@dataclass(frozen=True)
class Workload:
    """Inputs whose latency counts, and how much; `feeds` are arrays by input name."""

    feeds: Mapping[str, Any]
    weight: float = 1.0
