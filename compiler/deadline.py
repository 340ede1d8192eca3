"""When work on a large model stops in the middle: one pass over its weights may take longer than its owner waits."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=float("inf"))


class OutOfTime(Exception):
    """The time is over; what was found before stands."""


@contextmanager
def stopping_at(until: float) -> Generator[None]:
    """Passes over pieces end within, with `OutOfTime`, once `time.perf_counter` is beyond this."""
    token = _until.set(until)
    try:
        yield
    finally:
        _until.reset(token)


def stop_if_late() -> None:
    """Called between two pieces.

    Raises:
        OutOfTime: the time is over.
    """
    if time.perf_counter() > _until.get():
        raise OutOfTime


def ended_by(stop: BaseException) -> str:
    """What ended a search early, as reports say it."""
    return "the time limit was over" if isinstance(stop, OutOfTime) else "interrupted"
