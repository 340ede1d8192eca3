"""A front as text and as a drawing."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.task import Alternative, WorkloadTime
from tamago.compiler.front import EXACT, Point
from tamago.compiler.report_chart import HEIGHT, WIDTH, Chart
from tamago.compiler.within_budget import Result, ever_cheaper, with_wider

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


def result(allowed: float, upper: float | None, milliseconds: float) -> Result:
    account = Approximation(f"at most {allowed:g}", allowed, "kl", (), 8, upper=upper)
    if upper is None:
        return Result(None, None, account, [])
    account.workloads = [WorkloadTime(1.0, 1.0, 1.0, milliseconds, 1.0, 1.0, 1.0)]
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 23}), ir_version=10)
    return Result(model, None, account, [])


@pytest.mark.parametrize(
    ("upper", "milliseconds", "taken"),
    [(0.0008, 0.4, True), (0.002, 0.4, False), (0.0008, 0.6, False), (0.0008, 0.495, False)],
    ids=["proved and cheaper", "over the narrow bound", "dearer", "cheaper by noise"],
)
def test_what_a_wider_bound_found_serves_a_narrower_one(upper: float, milliseconds: float, taken: bool) -> None:
    narrow, wide = with_wider([result(0.001, 0.0005, 0.5), result(0.01, upper, milliseconds)], size=False)

    assert narrow.cost(size=False) == (milliseconds if taken else 0.5)
    assert (narrow.account.budget, narrow.account.allowed) == ("at most 0.001", 0.001)
    assert wide.account.budget == "at most 0.01"


def test_nothing_proved_takes_what_is_and_over_several_bounds() -> None:
    found = with_wider([result(0.001, None, 0.0), result(0.01, None, 0.0), result(0.1, 0.0001, 0.3)], size=False)
    assert [r.cost(size=False) for r in found] == [0.3, 0.3, 0.3]
    assert [r.account.allowed for r in found] == [0.001, 0.01, 0.1]

    found = with_wider([result(0.001, 0.0001, 0.3), result(0.01, None, 0.0)], size=False)
    assert [r.model is None for r in found] == [False, True]


def of(place: str, milliseconds: float) -> Result:
    found = result(0.01, 0.001, milliseconds)
    found.account.choice = [Alternative(place, "gptq", "4 bit", 0.001, milliseconds, 10)]
    return found


def test_one_program_timed_twice_is_one_point() -> None:
    assert [r.cost(size=False) for r in ever_cheaper([of("a", 0.5), of("a", 0.49)], 1.0, size=False)] == [0.5]


def test_each_other_program_that_costs_less_is_a_point() -> None:
    results = [result(0.001, None, 0.0), of("a", 0.5), of("b", 0.51), of("c", 0.4), of("d", 0.4)]

    assert [r.cost(size=False) for r in ever_cheaper(results, 1.0, size=False)] == [0.5, 0.4]
    assert ever_cheaper(results, 0.4, size=False) == []


def named(*shapes: dict[str, tuple[int, ...]]) -> list[str]:
    account = Approximation("at most 1", 1.0, "kl", (), 8)
    account.workloads = [WorkloadTime(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, s) for s in shapes]
    return account.workload_names()


def test_workloads_are_told_apart_by_the_shapes_that_differ() -> None:
    cache = (1, 4, 32, 8)

    assert named({"x": (1, 8), "cache": cache}, {"x": (2, 8), "cache": cache}) == [
        "workload 1, x[1, 8]",
        "workload 2, x[2, 8]",
    ]


def test_workloads_of_the_same_shapes_have_a_number() -> None:
    assert named({"x": (1, 8)}, {"x": (1, 8)}) == ["workload 1", "workload 2"]
    assert named({"x": (1, 8)}) == ["workload 1"]
    assert named() == []
