"""Work that is not timed, several pieces at once: the results and their order are those of one after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Condition
from typing import Any, Protocol, TypeVar, runtime_checkable

MOST = 4  # pieces at once: each holds what it works with

S = TypeVar("S")
T = TypeVar("T")


@runtime_checkable
class Several(Protocol):
    """A program that may be run by several at once, on one processor each."""

    at_once: int


def processors() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def at_once(threads: int | None) -> int:
    """How many pieces of so many threads keep the processors busy; None: one does."""
    return 1 if threads is None else max(1, min(MOST, processors() // max(threads, 1)))


def runs_at_once(program: Any) -> int:
    """How often a program may run at the same time; those that are not held in memory, or own a device, run alone."""
    return program.at_once if isinstance(program, Several) else 1


class Turns:
    """What pieces of work that run side by side do one after the other: draw from one generator, call an owner."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._over: set[int] = set()
        self._next = 0

    @contextmanager
    def take(self, number: int) -> Generator[None]:
        """Wait until the turns of all smaller numbers are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._next >= number)
        try:
            yield
        finally:
            self.end(number)

    def end(self, number: int) -> None:
        """A turn is over, or will not be taken: who fails before it must not keep the others waiting."""
        with self._changed:
            self._over.add(number)
            while self._next in self._over:
                self._next += 1
            self._changed.notify_all()


def each(function: Callable[[S], T], items: Iterable[S], count: int, *, waiting: int | None = None) -> Iterator[T]:
    """`map`, on `count` threads.

    Whoever lets go of it before its end waits for what was begun: nothing runs beside what comes after it.

    Args:
        function: called with each item, in a copy of the context.
        items: taken in order.
        count: of threads; one is the caller's own.
        waiting: results that may lie beside one that is not there yet; None: all others.
    """
    if count <= 1:
        yield from map(function, items)
        return
    begun: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for item in items:
            begun.append(pool.submit(copy_context().run, function, item))
            if waiting is not None and len(begun) > waiting:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
