"""One weight used several times makes the same error each time; what is predicted of all uses is what is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.calibration import Sample, Split
from tamago.compiler.approximate.judge import as_tensors
from tamago.compiler.approximate.losses import loss_model
from tamago.compiler.approximate.method import Form, Inputs, Method, X
from tamago.compiler.approximate.places import Place
from tamago.compiler.approximate.responses import Response
from tamago.compiler.approximate.tables import Tables
from tamago.compiler.approximate.task import Alternative, Task
from tamago.compiler.facts import Array
from tamago.compiler.rule import op
from tamago.compiler.store import Store

USES, WIDTH, CLASSES = 4, 48, 10


def to_sixteenths(place: Place, inputs: Inputs) -> Iterator[Form]:
    """Of the weight's largest element."""
    step = np.abs(place.weight).max() / 16
    yield Form("rounded", op.MatMul(X, (np.round(place.weight / step) * step).astype(np.float32)))


ROUNDED = Method("rounded", "quantization", ("linear",), "nobody", "W ← a multiple of a number", to_sixteenths)


def program(*, shared: bool) -> ir.Model:
    """Four times x ← x + relu(x·W), then classes."""
    generator = np.random.default_rng(0)
    given = ir.Value(name="x", shape=ir.Shape(["rows", WIDTH]), type=ir.TensorType(ir.DataType.FLOAT))
    shapes = [(WIDTH, WIDTH)] * (1 if shared else USES) + [(WIDTH, CLASSES)]
    arrays = [(generator.standard_normal(shape) / np.sqrt(WIDTH)).astype(np.float32) for shape in shapes]
    weights = [
        ir.Value(
            name=f"w{i}",
            const_value=ir.tensor(a, name=f"w{i}"),
            shape=ir.Shape(a.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        for i, a in enumerate(arrays)
    ]
    nodes, x = list[ir.Node](), given
    for use in range(USES):
        product = ir.node("MatMul", [x, weights[0 if shared else use]], name=f"use{use}")
        active = ir.node("Relu", product.outputs)
        added = ir.node("Add", [x, active.outputs[0]])
        nodes += [product, active, added]
        x = added.outputs[0]
    nodes.append(ir.node("MatMul", [x, weights[-1]], name="classes"))
    for node in nodes:
        width = CLASSES if node.name == "classes" else WIDTH
        node.outputs[0].shape, node.outputs[0].type = ir.Shape(["rows", width]), given.type
    graph = ir.Graph([given], nodes[-1].outputs, nodes=nodes, initializers=weights, opset_imports={"": 20})
    return ir.Model(graph, ir_version=10)


def one_by_one_together_and_measured(model: ir.Model) -> tuple[float, float, float]:
    """The rise of all uses' rounding: as the sum of what is predicted of each, as predicted of all, and measured."""
    generator = np.random.default_rng(1)
    samples = [Sample({"x": generator.standard_normal((16, WIDTH)).astype(np.float32)}, None) for _ in range(64)]
    target = OnnxRuntime(1)
    loss = loss_model(
        tamago.Budget(loss="kl", absolute=1.0), list, Response(model, ()).outputs(samples[0].feeds), samples[0]
    )
    workload: Any = SimpleNamespace(feeds=samples[0].feeds, weight=1.0)
    with Store.open(":memory:") as store:
        words: dict[str, Any] = {"methods": [ROUNDED], "target": target, "store": store, "outputs": list}
        task = Task(
            original=target.lower(model),
            exact=model,
            split=Split(samples, samples, ()),
            budget=tamago.Budget(loss="kl", absolute=1.0),
            size=False,
            workloads=[workload],
            **words,
        )
        tables = Tables(task, model)
        tables.fill(loss, 1)
    uses: Sequence[Alternative] = [table[1] for table in tables.alternatives[:USES]]
    changed = target.lower(tables.build(uses))

    def divergence(feeds: dict[str, Array]) -> float:
        return loss.divergence(as_tensors(changed(feeds)), as_tensors(task.original(feeds)))

    measured = float(np.mean([divergence(dict(s.feeds)) for s in samples]))
    return sum(a.rise for a in uses), tables.together(uses).rise, measured


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_predicted_of_all_uses_is_what_is_measured(*, shared: bool) -> None:
    one_by_one, together, measured = one_by_one_together_and_measured(program(shared=shared))

    assert 0.7 <= together / measured <= 1.4
    assert (one_by_one < 0.7 * measured) == shared  # different weights' errors have nothing to do with each other
