"""Programs that should do the same, timed side by side; what differs from the first is no candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .site_model import AGREE, agree
from .timing import Timing, beside_first

Run = Callable[[], object]
Tried = tuple[Run, Sequence[Any]]  # one call, and what the program computes


def time_alike(
    tried: Iterable[Tried | None], time: Callable[[list[Run]], list[Timing]], within: float = AGREE
) -> list[float] | None:
    """Milliseconds of programs; infinity for one that differs or does not run, None where the first does not.

    Programs are compared round by round, so that a machine that slows down for a while slows all of them alike: the
    first one's median, times the median of each one's ratio to it (see `beside_first`).

    Args:
        tried: each program's call and its outputs, None for one that does not run; asked for one after the other.
        time: interleaved timings of calls.
        within: how far, relative to the largest value, two programs may differ.
    """
    attempts = iter(tried)
    first = next(attempts, None)
    if first is None:
        return None
    rest = [t if t is not None and agree(first[1], t[1], within) else None for t in attempts]
    every = [first, *rest]
    milliseconds = iter(beside_first(time([t[0] for t in every if t is not None])))
    return [float("inf") if t is None else next(milliseconds) for t in every]
