"""Whether kernels start before the ones ahead have ended: what is asked, and which of two captures a program keeps."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tamago.backends.triton import early_starts, run
from tamago.backends.triton.early_starts import AT_ONCE, AT_THE_END, MOST_WAVES, NEVER, starting, when
from tamago.backends.triton.run import Captured, Program
from tamago.compiler.errors import TamagoError
from tamago.compiler.timing import Timing
from tests.cpu.test_epilogues import traced

PROCESSORS = 132


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Something on a device that lets kernels start early."""

    def properties(device: object) -> object:
        del device
        return SimpleNamespace(multi_processor_count=PROCESSORS)

    def may(x: Tensor) -> bool:
        del x
        return True

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(early_starts, "may_start_early", may)
    return torch.zeros(1)


def test_one_program_for_each_processor_lets_the_next_kernel_start_at_once(hopper: Tensor) -> None:
    with starting(early=True) as starts:
        found = [when(hopper, n) for n in (1, PROCESSORS, PROCESSORS + 1, MOST_WAVES * PROCESSORS)]

    assert found == [AT_ONCE, AT_ONCE, AT_THE_END, AT_THE_END]
    assert starts.asked == 4


def test_where_programs_are_many_starting_is_no_matter(hopper: Tensor) -> None:
    with starting(early=True) as starts:
        assert when(hopper, MOST_WAVES * PROCESSORS + 1) == NEVER

    assert not starts.asked


def test_what_is_not_to_start_early_says_that_it_could(hopper: Tensor) -> None:
    with starting(early=False) as starts:
        assert when(hopper, 1) == NEVER

    assert starts.asked


def test_outside_of_captures_and_on_other_devices_nothing_starts_early(hopper: Tensor) -> None:
    assert when(hopper, 1) == NEVER


def test_a_device_that_cannot_is_not_asked() -> None:
    with starting(early=True) as starts:
        assert when(torch.zeros(1), 1) == NEVER

    assert not starts.asked


def test_a_block_within_another_ends_alone() -> None:
    with starting(early=True) as outer:
        with starting(early=False):
            pass
        assert outer.early


class Replayed:
    """What a capture gives, which takes so many milliseconds."""

    def __init__(self, milliseconds: float, result: float = 1.0) -> None:
        self.milliseconds, self.outputs = milliseconds, [torch.tensor([result, float("nan")]), torch.tensor([True])]

    def replay(self) -> None:
        """Nothing to do."""


def capturing(
    monkeypatch: pytest.MonkeyPatch,
    plain: float | None,
    early: float | None,
    *,
    asked: bool = True,
    result: float = 1.0,
) -> tuple[Program, list[bool]]:
    """A program whose captures take this long; and how they were made, in order."""
    program = Program(traced(torch.nn.ReLU(), torch.zeros(2), optimised=False), device="cpu")
    made: list[bool] = []

    def capture(self: Program, inputs: list[Tensor]) -> Captured | None:
        del self, inputs
        starts = early_starts._starts.get()  # pyright: ignore[reportPrivateUsage]
        assert starts is not None
        starts.asked = int(asked) * (run.WARM + 1)
        made.append(starts.early)
        milliseconds = early if starts.early else plain
        return None if milliseconds is None else cast(Captured, Replayed(milliseconds, result if starts.early else 1.0))

    def timed(runs: Sequence[Any], **options: Any) -> list[Timing]:
        del options
        return [Timing((r.__self__.milliseconds,) * 3) for r in runs]

    monkeypatch.setattr(Program, "_capture_once", capture)
    monkeypatch.setattr(run, "interleave_graphs", timed)
    monkeypatch.setattr(run, "SHORT", 10.0)
    return program, made


def kept(program: Program) -> float | None:
    found = program._capture([torch.zeros(2)])  # pyright: ignore[reportPrivateUsage]
    return None if found is None else cast(Replayed, found).milliseconds


@pytest.mark.parametrize(
    ("plain", "early", "wanted"), [(2.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 1.0), (2.0, None, 2.0)]
)
def test_of_two_captures_the_faster_is_kept(
    monkeypatch: pytest.MonkeyPatch, plain: float, early: float | None, wanted: float
) -> None:
    program, made = capturing(monkeypatch, plain, early)

    assert kept(program) == wanted
    assert made == [False, True]
    assert program.note == ""


@pytest.mark.parametrize("raised", [RuntimeError("out of memory"), TamagoError("B002", "it fails")])
def test_a_second_capture_that_fails_leaves_the_first(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    program, _ = capturing(monkeypatch, 2.0, 1.0)
    first = Program._capture_once  # pyright: ignore[reportPrivateUsage]

    def capture(self: Program, inputs: list[Tensor]) -> Captured | None:
        found = first(self, inputs)
        starts = early_starts._starts.get()  # pyright: ignore[reportPrivateUsage]
        if starts is not None and starts.early:
            self.note = "not captured as a CUDA graph: captures no more"
            raise raised
        return found

    monkeypatch.setattr(Program, "_capture_once", capture)

    assert kept(program) == 2.0
    assert program.note == "", "else it would run without its graph from then on"


def test_a_capture_that_computes_something_else_is_not_kept_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    program, made = capturing(monkeypatch, 2.0, 1.0, result=1.5)

    assert kept(program) == 2.0
    assert made == [False, True]


def test_what_has_no_such_kernel_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program, made = capturing(monkeypatch, 2.0, 1.0, asked=False)

    assert kept(program) == 2.0
    assert made == [False]


def test_where_kernels_take_long_starting_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    program, made = capturing(monkeypatch, 11.0, 1.0)

    assert kept(program) == 11.0
    assert made == [False]


def test_what_cannot_be_captured_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    program, made = capturing(monkeypatch, None, 1.0)

    assert kept(program) is None
    assert made == [False]


def test_what_the_caller_gave_away_is_not_replayed_for_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay writes to it: a cache would hold a step twice."""
    program, made = capturing(monkeypatch, 2.0, 1.0)
    program._given = frozenset([0])  # pyright: ignore[reportPrivateUsage]

    assert kept(program) == 2.0
    assert made == [False]
