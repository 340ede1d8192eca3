"""What each bound on the error buys: the points of a front, as the report tells and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .approximate.task import WorkloadTime
    from .pipeline import Compiled

EXACT = "exact"
AS_IT_WAS = ("no gain", "not verified")  # verdicts with which the original itself is returned


@dataclass(frozen=True)
class Point:
    """One program.

    Args:
        bound: on the error, in words.
        rise: measured on samples that chose nothing.
        upper: what it is at most (95 %).
        size: bytes of the file, as a part of the original's.
        time: milliseconds over the workloads, as a part of the original's; None: nothing was timed.
    """

    bound: str
    rise: float
    upper: float
    size: float
    time: float | None

    def line(self) -> str:
        """For people."""
        measured = "" if self.bound == EXACT else f": {self.rise:+.4g}, at most {self.upper:.4g}"
        time = "" if self.time is None else f", {self.time:.3f} of the time"
        return f"{self.bound}{measured}; {self.size:.3f} of the size{time}"


def points_of(front: Sequence[Compiled]) -> list[Point]:
    """The exact program first, then those within a budget.

    Args:
        front: from one search.
    """
    return [_point(compiled, front, exact=number == 0) for number, compiled in enumerate(front)]


def _point(compiled: Compiled, front: Sequence[Compiled], *, exact: bool) -> Point:
    report, found = compiled.report, compiled.report.approximation
    size = report.after.file / max(report.before.file, 1)
    if exact:
        # Timed beside the programs that it is compared with: by itself it may not have been.
        beside = next((a.workloads for c in front[1:] if (a := c.report.approximation) is not None), [])
        kept = [w.original if report.verdict in AS_IT_WAS else w.exact for w in beside]
        return Point(EXACT, 0.0, 0.0, size, part_of_time(beside, kept))
    assert found is not None  # it is within a budget
    assert found.proof is not None
    assert found.upper is not None
    time = part_of_time(found.workloads, [w.result for w in found.workloads])
    return Point(found.budget, found.proof.value, found.upper, size, time)


def part_of_time(workloads: Sequence[WorkloadTime], milliseconds: Sequence[float]) -> float | None:
    """Of the original's time over the workloads with their weights; None without a clock."""
    original = sum(w.weight * w.original for w in workloads)
    taken = sum(w.weight * t for w, t in zip(workloads, milliseconds, strict=True))
    return taken / original if original else None
