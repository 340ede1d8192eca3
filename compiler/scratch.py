"""Large arrays in private files instead of memory, for as long as a model is compiled that is too large to be held.

What folding, rounding and factorising make of a model's weights is of the size of the weights. While a scratch folder
is open, such arrays are written to files there that have no name and that nobody else can open, and mapped back. The
system keeps what is used in memory and drops the rest; a file goes when the last of its arrays does, also if the
process dies.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from .errors import TamagoError
from .mapped import is_mapped

Array = npt.NDArray[np.generic]

SMALLEST = 1 << 20  # bytes: a smaller array stays in memory
SEGMENT = 1 << 28  # bytes of a file: several arrays share one, for the system counts open files
ALIGNMENT = 64  # bytes, a cache line

_open: ContextVar[Scratch | None] = ContextVar("scratch", default=None)


class Scratch:
    """Files of arrays in a folder.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._map: mmap.mmap | None = None
        self._descriptor, self._used = -1, 0

    def keep(self, array: Array) -> Array:
        """The same contents, mapped.

        Raises:
            TamagoError: M036, there is no room.
        """
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        with self._lock:
            try:
                whole, start = self._write(content)
            except OSError as error:
                raise TamagoError(
                    "M036",
                    "there is no room for what does not fit in memory",
                    where=str(self._folder),
                    why=error.strerror or str(error),
                    todo="free some space, or keep the store (and these files, beside it) on another disk",
                ) from error
        found = np.frombuffer(whole, array.dtype, array.size, start)
        return found.reshape(array.shape)

    def _write(self, content: Array) -> tuple[mmap.mmap, int]:
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if self._map is None or start + content.nbytes > len(self._map):
            self.close()
            self._map, self._descriptor = self._segment(max(SEGMENT, content.nbytes))
            start = 0
        view, position = content.data, start
        while len(view):
            count = os.pwrite(self._descriptor, view, position)
            view, position = view[count:], position + count
        self._used = position
        return self._map, start

    def _segment(self, size: int) -> tuple[mmap.mmap, int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix="tamago-", dir=self._folder) as file:
            file.truncate(size)
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), os.dup(file.fileno())

    def close(self) -> None:
        """Write no more; what is mapped stays as long as it is used."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._map, self._descriptor, self._used = None, -1, 0


@contextmanager
def scratch(folder: Path | None) -> Generator[None]:
    """Put large arrays away in a folder; None: leave them in memory."""
    if folder is None or not hasattr(os, "pwrite"):
        yield
        return
    opened = Scratch(folder)
    token = _open.set(opened)
    try:
        yield
    finally:
        _open.reset(token)
        opened.close()


def put_away(array: Array) -> Array:
    """An array that may be large, out of memory where a scratch folder is open."""
    opened = _open.get()
    if opened is None or array.nbytes < SMALLEST or array.dtype == object or is_mapped(array):
        return array
    return opened.keep(array)


def aligned(array: Array) -> Array:
    """The same contents at an address that its numbers' size divides, as those who compute with them in place expect.

    In a message they lie anywhere.
    """
    if array.flags.aligned:
        return array
    opened = _open.get()
    return array.copy() if opened is None else opened.keep(array)
