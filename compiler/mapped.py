"""Arrays whose bytes are a file's: whether one is, and letting go of its pages once it has been used."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


def is_mapped(array: Array) -> bool:
    """Whether an array's bytes are a file's."""
    return _map_of(array) is not None


def let_go(array: Array) -> None:
    """Take a mapped array's pages out of the process; who reads them again gets them from the file.

    The system would do so itself once memory is short. Until then they count as the process' own, and whoever watches
    it, or limits it, sees all weights that were ever read.
    """
    found = _map_of(array)
    if found is None or not array.nbytes or not array.flags.c_contiguous or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.__array_interface__["data"][0] - np.frombuffer(found, np.uint8).__array_interface__["data"][0]
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    found.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)


def _map_of(array: Array) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None
