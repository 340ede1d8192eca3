"""What the compiler is doing, shown on a terminal and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def progress(what: str) -> None:
    """Say what is being done; free when nobody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(what)


@contextmanager
def show_progress(stream: TextIO) -> Generator[None]:
    """Show steps on one line that is rewritten, when the stream is a terminal."""
    if not stream.isatty():
        yield
        return

    def show(what: str) -> None:
        stream.write(f"\r\x1b[2K{what[:100]}")
        stream.flush()

    token = _listener.set(show)
    try:
        yield
    finally:
        _listener.reset(token)
        stream.write("\r\x1b[2K")
        stream.flush()
