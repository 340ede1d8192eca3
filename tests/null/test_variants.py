"""Whole programs are asked for round by round, and no further than they pay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.approximate.acceptance import Evidence
from tamago.compiler.approximate.calibration import Sample, Split
from tamago.compiler.approximate.losses import LossModel
from tamago.compiler.approximate.structure import Observed, Structure, Variant
from tamago.compiler.approximate.task import Task
from tamago.compiler.approximate.variants import FEWEST, Measured, Variants
from tamago.compiler.rule import Skip

SAMPLES = [Sample({"x": np.zeros((1, 4), np.float32)}, None)] * 4
LOSS = LossModel("kl", None, lambda outputs: outputs)
TIMED: list[float] = []  # what each variant that was timed took


def program(size: int) -> ir.Model:
    """Of so many bytes of weights."""
    value = ir.Value(name="w", const_value=ir.tensor(np.zeros(size // 4, np.float32), name="w"))
    return ir.Model(ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 23}), ir_version=10)


class FakeTarget:
    """Programs take as long as they have bytes."""

    timed = True
    sums_are_wide = True

    def lacks(self, operators: frozenset[str]) -> frozenset[str]:
        return frozenset()

    def own(self, model: ir.Model) -> ir.Model:
        return model

    def lower(self, model: ir.Model) -> Any:
        size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
        return lambda feeds: size  # pyright: ignore[reportUnknownLambdaType]

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        times = [float(cast(int, run())) for run in runs]
        TIMED.append(times[-1])
        return times


def variants(*structures: Structure, samples: Sequence[Sample] = SAMPLES) -> Variants:
    return Variants(task_of(*structures, samples=samples), LOSS)


def task_of(*structures: Structure, samples: Sequence[Sample] = SAMPLES) -> Task:
    workload = SimpleNamespace(feeds={}, weight=1.0)
    return Task(
        original=lambda feeds: [],
        exact=program(4000),
        split=Split(samples, SAMPLES, ()),
        budget=cast(Any, None),
        size=True,
        workloads=[cast(Any, workload)],
        methods=(),
        target=cast(Any, FakeTarget()),
        store=None,
        outputs=lambda outputs: outputs,
        structures=structures,
    )


def structure(name: str, sizes: Sequence[int], asked: list[str]) -> Structure:
    def function(observed: Observed) -> Iterator[Variant]:
        for size in sizes:
            asked.append(f"{name} {size}")
            yield Variant(str(size), program(size))

    return Structure(name, "pruning", "nobody", "narrower", function)


def rise_by_size(model: ir.Model) -> Evidence:
    """Half the bytes cost a rise of a half."""
    size = next(iter(model.graph.initializers.values())).const_value
    assert size is not None
    return Evidence(1 - size.nbytes / 4000, 0.01, 16)


def at_most(limit: float) -> Callable[[Evidence], bool]:
    return lambda evidence: evidence.value <= limit


def test_a_structure_is_asked_no_further_than_the_limit() -> None:
    asked: list[str] = []
    found = list(variants(structure("s", (3600, 3200, 2000, 400), asked)).within(rise_by_size, at_most(0.25)))

    assert [m.setting for m in found] == ["3600", "3200"]
    assert asked == ["s 3600", "s 3200", "s 2000"]
    assert [m.bytes_ratio for m in found] == [0.9, 0.8]
    assert [m.time_ratio for m in found] == [0.9, 0.8]


def test_what_was_measured_once_is_known_for_a_wider_limit() -> None:
    asked: list[str] = []
    made = variants(structure("s", (3600, 3200, 2000), asked))
    assert len(list(made.within(rise_by_size, at_most(0.15)))) == 1

    assert len(list(made.within(rise_by_size, at_most(0.9)))) == 3
    assert asked == ["s 3600", "s 3200", "s 2000"]


def test_what_is_over_the_limit_is_not_timed() -> None:
    TIMED.clear()
    made = variants(structure("s", (3600, 2000), []))
    assert [m.time_ratio for m in made.within(rise_by_size, at_most(0.25))] == [0.9]
    assert TIMED == [3600.0]

    assert [m.time_ratio for m in made.within(rise_by_size, at_most(0.9))] == [0.9, 0.5]
    assert TIMED == [3600.0, 2000.0]


def test_more_work_is_spent_on_a_variant_only_where_it_may_bring_it_within_the_limit() -> None:
    """Rises as their settings say; what is mended has a half of it."""
    mended: list[str] = []

    def function(observed: Observed) -> Iterator[Variant]:
        for rise in (0.1, 0.3, 0.8, 0.5):

            def mend(rise: float = rise) -> ir.Model:
                mended.append(str(rise))
                return program(int(2000 * rise))

            yield Variant(str(rise), program(int(4000 * rise)), mend)

    def rise(model: ir.Model) -> Evidence:
        size = next(iter(model.graph.initializers.values())).const_value
        assert size is not None
        return Evidence(size.nbytes / 4000, 0.0, 16)

    made = variants(Structure("s", "pruning", "nobody", "narrower", function))

    assert [(m.setting, m.evidence.value) for m in made.within(rise, at_most(0.2))] == [("0.1", 0.1), ("0.3", 0.15)]
    assert mended == ["0.3"], "0.8 is out of reach"

    assert [m.setting for m in made.within(rise, at_most(0.4))] == ["0.1", "0.3", "0.8", "0.5"]
    assert mended == ["0.3", "0.8", "0.5"], "what was mended once stays so"


def test_what_more_work_makes_worse_stays_as_it_was() -> None:
    def function(observed: Observed) -> Iterator[Variant]:
        yield Variant("", program(3200), lambda: program(2000))

    made = variants(Structure("s", "pruning", "nobody", "narrower", function))

    assert not list(made.within(rise_by_size, at_most(0.1)))
    (found,) = made.within(rise_by_size, at_most(0.3))
    assert found.evidence.value == pytest.approx(0.2)


def test_a_structure_that_another_beats_is_left() -> None:
    asked: list[str] = []

    def worse(model: ir.Model) -> Evidence:
        size = next(iter(model.graph.initializers.values())).const_value
        assert size is not None
        return Evidence(0.5 if size.nbytes == 3600 else 0.1, 0.01, 16)

    found = list(
        variants(structure("a", (3500, 3000), asked), structure("b", (3600, 100), asked)).within(worse, at_most(1.0))
    )

    assert [(m.structure, m.setting) for m in found] == [("a", "3500"), ("a", "3000")]
    assert "b 100" not in asked


def test_a_reason_not_to_apply_is_kept() -> None:
    def refuses(observed: Observed) -> Iterator[Variant]:
        raise Skip("nothing is normalised")
        yield Variant("", observed.model)

    made = variants(Structure("s", "slicing", "nobody", "narrower", refuses))

    assert not list(made.within(rise_by_size, at_most(1.0)))
    assert made.refused == [("s", "nothing is normalised")]


def test_a_variant_of_another_structure_beats_only_where_it_is_no_worse_in_anything() -> None:
    def measured(structure: str, rise: float, time: float, size: float) -> Measured:
        return Measured(structure, "", program(4), Evidence(rise, 0.0, 4), size, (1.0, time))

    best = measured("a", 0.1, 0.5, 0.5)
    assert best.beats(measured("b", 0.2, 0.6, 0.5))
    assert not best.beats(measured("b", 0.05, 0.6, 0.5))
    assert not best.beats(measured("b", 0.2, 0.4, 0.5))
    assert not best.beats(measured("a", 0.2, 0.6, 0.6))


def test_structures_look_at_enough_samples_and_no_more() -> None:
    seen: list[int] = []

    def looks(observed: Observed) -> Iterator[Variant]:
        seen.append(len(observed.samples))
        yield from ()

    large = [Sample({"x": np.zeros((1, 1 << 16), np.float32)}, None)] * 64
    list(variants(Structure("s", "slicing", "nobody", "n", looks), samples=large).within(rise_by_size, at_most(1.0)))
    list(variants(Structure("s", "slicing", "nobody", "n", looks)).within(rise_by_size, at_most(1.0)))

    assert seen == [FEWEST, len(SAMPLES) // 2], "every second sample"


def test_variants_are_judged_where_no_structure_looked() -> None:
    seen: list[Sample] = []

    def looks(observed: Observed) -> Iterator[Variant]:
        seen.extend(observed.samples)
        yield from ()

    samples = [Sample({"x": np.zeros((1, 4), np.float32)}, number) for number in range(5)]
    made = variants(Structure("s", "slicing", "nobody", "n", looks), samples=samples)
    list(made.within(rise_by_size, at_most(1.0)))

    assert [s.target for s in seen] == [0, 2, 4]
    assert made.unseen == [1, 3]


@pytest.mark.parametrize(
    ("wide", "portable", "wanted"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_what_is_to_run_anywhere_takes_no_wide_sums_for_granted(wide: bool, portable: bool, wanted: bool) -> None:
    target = FakeTarget()
    target.sums_are_wide = wide

    task = replace(task_of(), target=cast(Any, target), portable=portable)

    assert task.sums_are_wide is wanted
