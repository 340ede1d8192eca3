"""How long may be spent on measuring: only the time spent on it counts, not the search between two measurements."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Allowance:
    """Seconds for measuring.

    Args:
        seconds: to spend.
        until: `time.perf_counter` after which nothing is left, whatever was spent: the owner's own limit.
    """

    def __init__(self, seconds: float, until: float = float("inf")) -> None:
        self._seconds, self._until = seconds, until
        self._since: float | None = None

    def left(self) -> float:
        """Seconds left now."""
        now = time.perf_counter()
        running = 0.0 if self._since is None else now - self._since
        return min(self._seconds - running, self._until - now)

    @contextmanager
    def spending(self) -> Generator[None]:
        """Count the time spent within."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._seconds -= time.perf_counter() - self._since
            self._since = None
