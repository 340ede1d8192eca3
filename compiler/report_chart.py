"""A front as a drawing: parts of the original's size and time over the measured rise, in a viewport's own units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from .front import Point

Dot = tuple[float, float, str]
WIDTH, HEIGHT, MARGIN = 720, 320, 48
LINES = (0.0, 0.25, 0.5, 0.75, 1.0)
TICKS = (0.0, 0.1, 0.25, 0.5, 1.0)  # of the largest rise
LEAST = 1e-9


@dataclass(frozen=True)
class Chart:
    """Where everything is.

    Args:
        lines: height and label of each horizontal line.
        ticks: place and label of each rise that is written out.
        series: what is drawn, and its points from left to right: place, height, what it says.
    """

    lines: list[tuple[float, str]]
    ticks: list[tuple[float, str]]
    series: list[tuple[str, list[Dot]]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = MARGIN
    right: int = WIDTH - MARGIN // 4

    @classmethod
    def of(cls, points: Sequence[Point]) -> Chart:
        """The square root of a rise is the size of an error: bounds of every order are told apart on it."""
        most = max(LEAST, *(p.rise for p in points))
        top = max(1.0, *(p.size for p in points), *(p.time or 0.0 for p in points))
        scale = float(ceil(top))

        def place(rise: float) -> float:
            return round(MARGIN + (WIDTH - 1.5 * MARGIN) * (max(rise, 0.0) / most) ** 0.5, 1)

        def height(part: float) -> float:
            return round(MARGIN / 4 + (HEIGHT - 1.25 * MARGIN) * (1 - part / scale), 1)

        ordered = sorted(points, key=lambda p: p.rise)
        sizes = [(place(p.rise), height(p.size), p.line()) for p in ordered]
        times = [(place(p.rise), height(p.time), p.line()) for p in ordered if p.time is not None]
        return cls(
            [(height(part * scale), f"{part * scale:g}") for part in LINES],
            [(place(part * most), f"{part * most:.2g}") for part in (TICKS if most > LEAST else TICKS[:1])],
            [("size", sizes), *([("time", times)] if times else [])],
        )
