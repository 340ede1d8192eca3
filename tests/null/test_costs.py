"""Costs of forms: each is measured once, beside the place as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.approximate.costs import FAILED, Costs
from tamago.compiler.approximate.forms import exact_form
from tamago.compiler.approximate.method import Form, X
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.errors import TamagoError
from tamago.compiler.facts import Array
from tamago.compiler.rule import op
from tamago.compiler.store import Store

TEXT = """<ir_version: 10, opset_import: ["" : 18]> g (float[n,32] x, float[32,32] w)
    => (float[n,32] y) { y = MatMul (x, w) }"""
MILLISECONDS = {"MatMul": 4.0, "Relu": 2.0, "Abs": 1.0}


class Clock:
    """An operator takes what is said of it, times how slow the machine is; Tanh does not run."""

    environment = "a machine"
    timed = True

    def __init__(self) -> None:
        self.slowness = 1.0
        self.timings: list[int] = []
        self.loaded: list[str] = []

    def own(self, model: ir.Model) -> ir.Model:
        return model

    def lower(self, model: ir.Model) -> Callable[[Mapping[str, Array]], float]:
        (node,) = model.graph
        self.loaded.append(node.op_type)

        def run(feeds: Mapping[str, Array]) -> float:
            if node.op_type == "Tanh":
                raise TamagoError("B002", "it does not run")
            return self.slowness * MILLISECONDS[node.op_type]

        return run

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        self.timings.append(len(runs))
        return [cast(float, run()) for run in runs]


@pytest.fixture
def place() -> Place:
    model = ir.from_onnx_text(TEXT)
    weight = model.graph.inputs.pop()
    weight.const_value = ir.tensor(np.ones((32, 32), np.float32), name="w")
    model.graph.register_initializer(weight)
    (found,) = find_places(model.graph)
    return found


def forms(place: Place, *operators: str) -> dict[str, Form]:
    return {"exact": exact_form(place)} | {name: Form(name, getattr(op, name)(X)) for name in operators}


def costs(clock: Clock, store: Store) -> Costs:
    return Costs(cast(Any, clock), store, [1.0, 0.5])


def test_the_cost_is_the_weighted_sum_over_workloads(place: Place) -> None:
    clock = Clock()
    with Store.open(":memory:") as store:
        found = costs(clock, store).of(place, forms(place, "Relu"), [(8, 32), (2, 32)])

    assert found == {"exact": 6.0, "Relu": 3.0}
    assert clock.loaded == ["MatMul", "Relu"]


def test_a_workload_that_does_not_reach_the_place_costs_nothing(place: Place) -> None:
    with Store.open(":memory:") as store:
        assert costs(Clock(), store).of(place, forms(place), [(8, 32), None]) == {"exact": 4.0}


def test_a_new_form_is_measured_beside_the_place_as_it_is_and_no_other(place: Place) -> None:
    clock = Clock()
    with Store.open(":memory:") as store:
        measuring = costs(clock, store)
        measuring.of(place, forms(place, "Relu"), [(8, 32), None])
        clock.slowness = 3.0  # another moment: the ratio to the place as it is stays what it is

        found = measuring.of(place, forms(place, "Relu", "Abs"), [(8, 32), None])

    assert found == {"exact": 4.0, "Relu": 2.0, "Abs": 1.0}
    assert clock.timings == [2, 2]
    assert measuring.measured == 3


def test_what_the_store_knows_is_not_measured_again(place: Place) -> None:
    clock = Clock()
    with Store.open(":memory:") as store:
        costs(clock, store).of(place, forms(place, "Relu"), [(8, 32), (2, 32)])
        known = costs(clock, store)
        clock.loaded.clear()

        assert known.of(place, forms(place, "Relu"), [(8, 32), (2, 32)]) == {"exact": 6.0, "Relu": 3.0}
    assert known.measured == 0
    assert not clock.loaded


def test_a_form_that_does_not_run_is_never_chosen(place: Place) -> None:
    with Store.open(":memory:") as store:
        found = costs(Clock(), store).of(place, forms(place, "Tanh", "Relu"), [(8, 32), None])

    assert found == {"exact": 4.0, "Tanh": FAILED, "Relu": 2.0}
