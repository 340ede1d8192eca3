"""A front as text and as a drawing."""

from __future__ import annotations

import pytest

from tamago.compiler.front import EXACT, Point
from tamago.compiler.report_chart import HEIGHT, WIDTH, Chart

POINTS = [
    Point(EXACT, 0.0, 0.0, 1.0, 0.9),
    Point("loss may rise by 0.100%", -0.0002, 0.0009, 0.5, 0.8),
    Point("loss may rise by 1.000%", 0.008, 0.0099, 0.25, 0.4),
]


def test_a_point_says_what_it_is() -> None:
    assert POINTS[0].line() == "exact; 1.000 of the size, 0.900 of the time"
    assert POINTS[2].line() == ("loss may rise by 1.000%: +0.008, at most 0.0099; 0.250 of the size, 0.400 of the time")


@pytest.mark.parametrize("scale", [1.0, 1e-6, 50.0])
def test_everything_is_inside_the_drawing(scale: float) -> None:
    points = [Point(p.bound, p.rise * scale, p.upper * scale, p.size * max(scale, 1), p.time) for p in POINTS]
    chart = Chart.of(points)

    assert [name for name, _ in chart.series] == ["size", "time"]
    for x, y, _ in (dot for _, dots in chart.series for dot in dots):
        assert chart.left <= x <= chart.right <= WIDTH
        assert 0 <= y <= HEIGHT - 36
    heights = {told: y for _, y, told in chart.series[0][1]}
    assert heights[points[2].line()] > heights[points[0].line()]  # what is smaller lies lower
    assert [float(label) for _, label in chart.lines] == [max(scale, 1.0) * part for part in (0, 0.25, 0.5, 0.75, 1)]


def test_what_was_not_timed_has_no_line() -> None:
    chart = Chart.of([Point(p.bound, p.rise, p.upper, p.size, None) for p in POINTS])

    assert [name for name, _ in chart.series] == ["size"]


def test_a_front_of_one_point_is_drawn() -> None:
    assert len(Chart.of(POINTS[:1]).series[0][1]) == 1
