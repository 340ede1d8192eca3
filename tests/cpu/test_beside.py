"""What runs beside what: the order of results, what is waited for, and how many threads linear algebra has."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import tamago
from tamago.backends.onnxruntime.run import Program
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler import beside, blas
from tamago.compiler.approximate.calibration import Sample, Split
from tamago.compiler.approximate.losses import LossModel, loss_model
from tamago.compiler.approximate.responses import Response
from tamago.compiler.approximate.structure import Observed
from tamago.compiler.approximate.tables import Tables
from tamago.compiler.approximate.taps import samples_at_once
from tamago.compiler.approximate.task import Alternative, Task
from tamago.compiler.beside import Turns, at_once, each, runs_at_once
from tamago.compiler.store import Store
from tamago.compiler.streaming import outputs_for_each
from tamago.rewrites import all_methods

Array = np.ndarray[Any, Any]


def squares() -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape(["rows", 8]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Mul", [x, x])
    return ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}), ir_version=10)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("waiting", [None, 1, 2, 5])
def test_results_come_in_the_order_of_the_items_however_long_each_takes(count: int, waiting: int | None) -> None:
    def slowest_first(n: int) -> int:
        time.sleep(0.002 * (10 - n))
        return n * n

    assert list(each(slowest_first, range(10), count, waiting=waiting)) == [n * n for n in range(10)]
    assert list(each(slowest_first, [], count)) == []


def test_several_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2)

    assert list(each(lambda n: (meeting.wait(10), n)[1], range(4), 2)) == [0, 1, 2, 3]


def test_no_more_is_begun_than_may_wait() -> None:
    begun: list[int] = []
    found = each(lambda n: begun.append(n) or n, range(100), 2, waiting=2)

    assert next(found) == 0
    assert len(begun) <= 3


def test_who_lets_go_waits_for_what_was_begun() -> None:
    running, done = threading.Event(), list[int]()

    def slowly(n: int) -> int:
        if n:
            running.set()
            time.sleep(0.05)
            done.append(n)
        return n

    found = each(slowly, range(100), 2, waiting=1)
    assert next(found) == 0
    running.wait(10)
    found.close()  # type: ignore[attr-defined]

    before = list(done)
    time.sleep(0.1)
    assert done == before
    assert 1 <= len(done) <= 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_failure_is_raised_at_its_own_place(count: int) -> None:
    found = each(lambda n: 6 // n, [3, 2, 0, 1], count)

    assert [next(found), next(found)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_work_knows_the_callers_context() -> None:
    said: ContextVar[str] = ContextVar("said", default="nothing")
    said.set("something")

    assert list(each(lambda _: said.get(), range(3), 2)) == ["something"] * 3


def test_programs_that_own_their_processor_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "processors", lambda: 6)

    assert [at_once(n) for n in (None, 1, 2, 3, 6, 8)] == [1, beside.MOST, 3, 2, 1, 1]
    assert runs_at_once(lambda feeds: feeds) == 1
    assert runs_at_once(Program(squares(), None)) == 1
    assert runs_at_once(Program(squares(), 2)) == 3


def test_a_program_run_by_several_at_once_gives_each_its_own_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "processors", lambda: 4)
    many: list[Mapping[str, Array]] = [{"x": np.full((n + 1, 8), n, np.float32)} for n in range(40)]
    program = Program(squares(), 1)

    found = [outputs[0] for outputs in outputs_for_each(program, many)]

    assert program.at_once == 4
    assert all(np.array_equal(y, feeds["x"] ** 2) for y, feeds in zip(found, many, strict=True))


def perceptron() -> ir.Model:
    """Two products: 64 → 96 → 64."""
    generator = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape(["rows", 64]), type=ir.TensorType(ir.DataType.FLOAT))
    weights = [
        ir.Value(
            name=f"w{i}",
            const_value=ir.tensor((generator.standard_normal(shape) / 8).astype(np.float32), name=f"w{i}"),
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        for i, shape in enumerate([(64, 96), (96, 64)])
    ]
    first = ir.node("MatMul", [x, weights[0]], name="first")
    between = ir.node("Relu", first.outputs)
    second = ir.node("MatMul", [between.outputs[0], weights[1]], name="second")
    nodes = [first, between, second]
    for node, width in zip(nodes, (96, 96, 64), strict=True):
        node.outputs[0].shape, node.outputs[0].type = ir.Shape(["rows", width]), x.type
    graph = ir.Graph([x], second.outputs, nodes=nodes, initializers=weights, opset_imports={"": 20})
    return ir.Model(graph, ir_version=10)


def filled(model: ir.Model) -> tuple[list[list[Alternative]], list[tuple[str, str, str]]]:
    """Every place's alternatives, but for what they cost, and what was refused."""
    generator = np.random.default_rng(1)
    samples = [Sample({"x": generator.standard_normal((8, 64)).astype(np.float32)}, None) for _ in range(16)]
    budget = tamago.Budget(loss="kl", rise=0.1)
    target = OnnxRuntime(1)
    loss = loss_model(budget, lambda outputs: outputs, Response(model, ()).outputs(samples[0].feeds), samples[0])
    with Store.open(":memory:") as store:
        workload: Any = SimpleNamespace(feeds=samples[0].feeds, weight=1.0)
        tables = Tables(
            Task(
                target.lower(model),
                model,
                Split(samples, samples, ()),
                budget,
                False,
                [workload],
                all_methods(),
                target,
                store,
                lambda outputs: outputs,
            ),
            model,
        )
        tables.fill(loss, 1)
    return [[replace(a, cost=0.0) for a in table] for table in tables.alternatives], tables.refused


def test_forms_their_errors_and_refusals_are_the_same_however_many_are_found_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    for count in (1, 4):
        monkeypatch.setattr(beside, "processors", lambda count=count: count)
        found.append(filled(perceptron()))

    assert found[0] == found[1]
    assert len(found[0][0]) == 2
    assert min(map(len, found[0][0])) > 10


def looked_at(model: ir.Model) -> tuple[list[Any], list[Any]]:
    """Values and gradients inside the program, sample by sample."""
    generator = np.random.default_rng(1)
    samples = [Sample({"x": generator.standard_normal((3, 64)).astype(np.float32)}, None) for _ in range(12)]
    budget = tamago.Budget(loss="kl", rise=0.1)
    outputs = Response(model, ()).outputs(samples[0].feeds)
    observed = Observed(model, samples, loss_model(budget, lambda outputs: outputs, outputs, samples[0]))
    names = [v.name or "" for node in model.graph for v in node.outputs]
    return list(observed.values(["x", *names])), list(observed.gradients(names))


def test_what_is_seen_inside_a_program_is_the_same_however_many_samples_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "processors", lambda: 1)
    values, gradients = looked_at(perceptron())
    monkeypatch.setattr(beside, "processors", lambda: 64)
    assert samples_at_once(perceptron()) > 1
    others = looked_at(perceptron())

    assert len(values) == len(gradients) == 12
    for one, other in zip(values, others[0], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in {*one, *other})
    for one, other in zip(gradients, others[1], strict=True):
        assert all(np.array_equal(p, q) for name in {*one, *other} for p, q in zip(one[name], other[name], strict=True))


def test_turns_are_taken_in_order_and_not_waited_for_where_one_fails_before_its_own() -> None:
    turns, order = Turns(), list[int]()

    def work(n: int) -> int:
        try:
            time.sleep(0.01 * ((7 * n) % 5))
            if n == 4:
                raise ValueError("before its turn")
            with turns.take(n):
                if n == 6:
                    raise ValueError("in its turn")
                order.append(n)
            return n
        except ValueError:
            return -n
        finally:
            turns.end(n)

    assert list(each(work, range(12), 4)) == [0, 1, 2, 3, -4, 5, -6, 7, 8, 9, 10, 11]
    assert order == [0, 1, 2, 3, 5, 7, 8, 9, 10, 11]


def test_an_owners_loss_is_called_by_one_at_a_time_in_the_order_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    inside, most = [0], [0]

    def loss(outputs: Any, target: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        calls.append(target)
        time.sleep(0.002)
        inside[0] -= 1
        return outputs[0].square().mean()

    monkeypatch.setattr(beside, "processors", lambda: 64)
    samples = [Sample({"x": np.ones((2, 64), np.float32)}, n) for n in range(20)]
    observed = Observed(perceptron(), samples, LossModel("function", loss, lambda outputs: outputs))

    assert len(list(observed.gradients(["val_0"]))) == 20
    assert [n for n, _ in groupby(calls)] == list(range(20)), "twice in a row where curvature is asked for"
    assert most == [1]


def test_linear_algebra_has_its_threads_back_when_the_last_one_leaves() -> None:
    before = blas.threads()

    with blas.one_thread():
        with blas.one_thread():
            assert set(blas.threads()) <= {1}
        assert set(blas.threads()) <= {1}
    assert blas.threads() == before


def test_linear_algebra_has_its_threads_back_after_a_failure_and_when_others_left_first() -> None:
    before, inside = blas.threads(), threading.Event()
    leave = threading.Event()

    def stay() -> None:
        with blas.one_thread():
            inside.set()
            leave.wait(10)

    def fail() -> None:
        with blas.one_thread():
            other.start()
            inside.wait(10)
            raise ValueError("anything")

    other = threading.Thread(target=stay)
    with pytest.raises(ValueError, match="anything"):
        fail()
    assert set(blas.threads()) <= {1}
    leave.set()
    other.join()
    assert blas.threads() == before
