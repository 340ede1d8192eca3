"""What the owner allows and asks for, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import EXIT_UNSUPPORTED, TamagoError
from .rule import Drift
from .saturate import Limits

if TYPE_CHECKING:
    from .approximate.budget import Budget

TARGETS = ("cpu", "cuda", "webgpu", "web")  # web: a device that only a browser will know


@dataclass(frozen=True)
class Options:
    """What the owner allows and asks for; see `tamago.compile`."""

    target: str = "cpu"
    drift: Drift = "rounding"
    objective: Literal["latency", "size"] = "latency"
    threads: int | None = None
    keep: tuple[str, ...] = ()
    portable: bool = False
    time_limit: float | None = None
    store: Any = None
    measure: bool = True
    methods: tuple[str, ...] | str | None = None
    strict: bool = False
    limits: Limits = field(default_factory=Limits)

    def as_dict(self) -> dict[str, Any]:
        """What the report records."""
        return {k: v for k, v in vars(self).items() if k not in ("store", "limits", "strict")}

    def check(self) -> None:
        """Raise U0xx for values that make no sense."""
        if self.target not in TARGETS:
            raise TamagoError(
                "U001",
                f"target {self.target!r} is not built",
                todo=f"use one of: {', '.join(TARGETS)}",
                exit_code=EXIT_UNSUPPORTED,
            )
        if self.drift not in ("none", "rounding"):
            raise TamagoError("U002", f"drift {self.drift!r} is unknown", todo='use "none" or "rounding"')
        if self.objective not in ("latency", "size"):
            raise TamagoError("U003", f"objective {self.objective!r} is unknown", todo='use "latency" or "size"')
        if self.threads is not None and not (_is_number(self.threads, whole=True) and self.threads >= 1):
            raise TamagoError("U004", f"threads is {self.threads!r}", todo="use a whole number from 1")
        if self.time_limit is not None and not (_is_number(self.time_limit) and self.time_limit > 0):
            raise TamagoError("U005", f"time_limit is {self.time_limit!r}", todo="use a number of seconds above 0")
        methods: Any = self.methods
        named = isinstance(methods, str) or (isinstance(methods, tuple) and all(isinstance(m, str) for m in methods))
        if methods is not None and not named:
            raise TamagoError("U050", f"methods is {methods!r}", todo='name them, as in methods=["gptq", "taylor"]')

    def check_budget(self, budget: Budget) -> None:
        """Raise U052 for what an error budget cannot be spent on."""
        if self.target == "web" and (self.objective != "size" or budget.latency is not None):
            raise TamagoError(
                "U052",
                "no faster program can be looked for: a browser is not timed here",
                todo='use objective="size" without a latency, or target "webgpu" on a device like your visitors\'',
                exit_code=EXIT_UNSUPPORTED,
            )


def require_none(**given: Any) -> None:
    """Raise U054 for what only a program within a budget is judged on or made by: it would be passed over."""
    names = [name for name, value in given.items() if value is not None and not _is_empty(value)]
    if names:
        raise TamagoError(
            "U054",
            f"{' and '.join(names)} without a budget",
            why="an exact program is judged on args, and no approximate method makes it",
            todo="give budget and calibration too, or leave it out and pass the inputs that count as args",
        )


def _is_empty(value: object) -> bool:
    return isinstance(value, Sized) and len(value) == 0


def _is_number(value: object, *, whole: bool = False) -> bool:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)
