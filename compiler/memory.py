"""How much memory there is for the taking, as the operating system says."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

_INFO = Path("/proc/meminfo")
_LIMIT, _USED, _STATISTICS = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current", "stat"))

SMALLEST_ASKED = 1 << 25  # bytes: asking takes as long as a small model's run


def available() -> int | None:
    """Bytes that a process may still take before something is killed or swapped; None where nothing says.

    Pages of files count as free: they are dropped when others need the room. A container's own limit counts too.
    """
    found = [n for n in (_of_machine(), _of_container()) if n is not None]
    return min(found, default=None)


def available_for(size: int) -> int | None:
    """`available` where that many bytes are wanted; None too where they are so few that nobody need ask."""
    return available() if size >= SMALLEST_ASKED else None


def give_back() -> None:
    """Return to the system what was freed: glibc keeps pieces of less than 32 MB in case they are wanted again."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage]
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None


def _of_machine() -> int | None:
    lines = _lines(_INFO)
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container() -> int | None:
    limit, used = "".join(_lines(_LIMIT)), "".join(_lines(_USED))
    if not limit.isdigit() or not used.isdigit():
        return None  # no container, or one without a limit
    files = sum(int(x.split()[1]) for x in _lines(_STATISTICS) if x.startswith(("inactive_file ", "active_file ")))
    return max(int(limit) - int(used) + files, 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
