"""How many threads numpy's and scipy's linear algebra takes.

OpenBLAS cuts every product inside a factorisation in parts and waits for each of them by spinning. Matrices of a few
hundred rows are so small that the threads hardly gain, and where another process has a processor they wait for it at
every step: an eigendecomposition of 384 rows was seen to take 50 times as long as on one thread.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from threading import Lock

_USERS = ("numpy.linalg._umath_linalg", "scipy.linalg._fblas")
_NAMES = tuple((f"{p}openblas_", f"_num_threads{s}") for p in ("scipy_", "") for s in ("64_", "_64_", ""))

_lock = Lock()
_inside = 0
_before: list[int] = []


@contextmanager
def one_thread() -> Generator[None]:
    """OpenBLAS on one thread for the whole process, until the last that is inside leaves; others are left alone."""
    global _inside
    with _lock:
        if _inside == 0:
            _before[:] = [count() for count, _ in _pools()]
            _set([1] * len(_before))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set(_before)


def threads() -> list[int]:
    """Of each OpenBLAS that is loaded."""
    return [count() for count, _ in _pools()]


def _set(counts: list[int]) -> None:
    for (_, change), count in zip(_pools(), counts, strict=True):
        change(count)


@cache
def _pools() -> list[tuple[Callable[[], int], Callable[[int], object]]]:
    return [pool for user in _USERS if (pool := _pool(user)) is not None]


def _pool(user: str) -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The functions of the library that an extension module was linked to; None where they are not to be found."""
    try:
        path = importlib.import_module(user).__file__
        library = ctypes.CDLL(path or "")
    except (ImportError, OSError):
        return None
    for start, end in _NAMES:
        get, change = getattr(library, f"{start}get{end}", None), getattr(library, f"{start}set{end}", None)
        if path and get is not None and change is not None:
            return get, change
    return None
