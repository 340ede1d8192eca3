"""A repeated block knows how what it reads came about: rules see across its border, and write what is shared once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.run import Program
from tamago.compiler.blocks import Block, find_blocks
from tamago.compiler.encode import CONTEXT, encode
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.compiler.opset import TARGET
from tamago.compiler.optimise import Outcome, Settings, optimise
from tamago.compiler.price import Prices
from tamago.compiler.rule import Term, Value, op, rule, var
from tamago.compiler.saturate import Limits, saturate
from tamago.compiler.store import Store
from tamago.rewrites import all_rules

LAYERS, ROWS, SIZE = 5, 3, 8
FLOAT = ir.TensorType(ir.DataType.FLOAT)
y, t = var("y t")


@rule(op.Mul(y, op.Exp(op.Neg(t))), drift="rounding", example={"y": "f32[2]", "t": "f32[2]"})
def divided_by_growth(y: Value, t: Value) -> Term:
    """y·exp(−t) = y / exp(t)."""
    return op.Div(y, op.Exp(t))


class Graph:
    """Nodes by operator, each with one result."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self.inputs: list[ir.Value] = []
        self.generator = np.random.default_rng(0)

    def input(self, *shape: int) -> ir.Value:
        self.inputs.append(ir.Value(name=f"x{len(self.inputs)}", shape=ir.Shape(shape), type=FLOAT))
        return self.inputs[-1]

    def constant(self, array: Any) -> ir.Value:
        self.constants.append(new_constant(f"c{len(self.constants)}", np.asarray(array)))
        return self.constants[-1]

    def weight(self) -> ir.Value:
        return self.constant(self.generator.standard_normal((SIZE, SIZE)).astype(np.float32))

    def node(self, op_type: str, *operands: ir.Value, **attributes: Any) -> ir.Value:
        stated = [ir.convenience.convert_attribute(k, v) for k, v in attributes.items()]
        self.nodes.append(ir.Node("", op_type, operands, stated, name=f"n{len(self.nodes)}"))
        self.nodes[-1].outputs[0].name = f"v{len(self.nodes)}"
        return self.nodes[-1].outputs[0]

    def model(self, *outputs: ir.Value) -> ir.Model:
        graph = ir.Graph(
            *(self.inputs, outputs), nodes=self.nodes, initializers=self.constants, opset_imports={"": TARGET}, name="g"
        )
        model = ir.Model(graph, ir_version=10)
        infer(model)
        return model


def decaying(*, shared: bool = True, deep: int = 0) -> ir.Model:
    """Each layer times exp(−t): the same in all of them, or each another; so many nodes behind it."""
    graph = Graph()
    x, times = graph.input(ROWS, SIZE), graph.input(ROWS, SIZE)

    def decay(number: int) -> ir.Value:
        found = graph.node("Mul", times, graph.constant(np.float32(1 + number)))
        for _ in range(deep):  # in no order that repeats
            found = graph.node(str(graph.generator.choice(["Tanh", "Abs", "Sin", "Cos", "Neg", "Relu"])), found)
        return graph.node("Exp", graph.node("Neg", found))

    decays = [decay(0)] * LAYERS if shared else [decay(i) for i in range(LAYERS)]
    for factor in decays:
        inner = graph.node("Relu", graph.node("MatMul", x, graph.weight()))
        x = graph.node("Add", x, graph.node("Mul", inner, factor))
    return graph.model(x)


def repeated(model: ir.Model) -> Block:
    return max(find_blocks(model.graph), key=lambda block: len(block.instances))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def optimised(
    model: ir.Model, *, loved: tuple[str, ...], rules: Any = (divided_by_growth,)
) -> tuple[ir.Model, Outcome]:
    result = model.clone()
    prices = Prices(Store.open(":memory:"), "tests", preferences=dict.fromkeys(loved, 1e-3))
    return result, optimise(result, Settings(rules=tuple(rules), strict=True), prices, infer)


def check_equal(wanted: ir.Model, found: ir.Model) -> None:
    generator = np.random.default_rng(1)
    feeds: dict[str, Any] = {}
    for value in wanted.graph.inputs:
        assert value.shape is not None
        feeds[value.name or ""] = generator.standard_normal(value.shape.numpy()).astype(np.float32)
    for a, b in zip(Program(wanted, 1, optimise=False)(feeds), Program(found, 1)(feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_a_block_that_repeats_has_what_all_of_it_read_as_context() -> None:
    model = decaying()
    block = repeated(model)
    inside = {value for instance in block.instances for node in instance.nodes for value in node.outputs}

    context = [value for _, value in encode(block, TARGET).context]

    assert len(block.instances) == LAYERS
    names = [v.name if v.producer() is None else v.producer().op_type for v in context]  # pyright: ignore[reportOptionalMemberAccess]
    assert names[:3] == ["Neg", "Mul", "x1"]
    assert not inside & set(context)


@pytest.mark.parametrize("context", [True, False])
def test_a_rule_matches_across_the_border_where_the_context_is_known(context: bool) -> None:
    encoded = encode(repeated(decaying()), TARGET, context=context)

    report = saturate(encoded.egraph, [divided_by_growth], Limits(), strict=True)

    assert bool(encoded.context) is context
    assert report.applied[divided_by_growth.name] == (1 if context else 0)


def test_what_differs_between_instances_is_no_context() -> None:
    block = repeated(decaying(shared=False))
    assert len(block.instances) >= LAYERS - 1  # the last one may stay with what is computed before the first

    encoded = encode(block, TARGET)
    report = saturate(encoded.egraph, [divided_by_growth], Limits(), strict=True)

    assert encoded.context == []
    assert report.applied[divided_by_growth.name] == 0


def test_what_the_layers_compute_is_no_context_of_them() -> None:
    """The first layer's own input is none either: each reads another."""
    model = decaying()
    values = {value.name for _, value in encode(repeated(model), TARGET).context}

    assert "x0" not in values
    assert "x1" in values


def test_a_block_that_stands_once_has_no_context() -> None:
    graph = Graph()
    x, times = graph.input(ROWS, SIZE), graph.input(ROWS, SIZE)
    model = graph.model(graph.node("Mul", x, graph.node("Exp", graph.node("Neg", times))))

    assert encode(repeated(model), TARGET).context == []


def test_the_context_ends_somewhere() -> None:
    encoded = encode(repeated(decaying(deep=3 * CONTEXT)), TARGET)

    assert CONTEXT - 2 <= len(encoded.context) <= CONTEXT + 2


def test_every_layer_is_rewritten_and_what_they_share_is_written_once() -> None:
    model = decaying()

    found, outcome = optimised(model, loved=("Div", "Exp"))

    assert outcome.used[divided_by_growth.name] >= LAYERS
    counts = operators(found)
    assert counts["Div"] == LAYERS
    assert counts["Exp"] == 1, "exp(t) depends on the context alone"
    assert counts["Neg"] == 0
    assert [v.name for v in found.graph.outputs] == [v.name for v in model.graph.outputs]
    check_equal(model, found)


def test_layers_that_read_another_value_each_stay_as_they_are() -> None:
    model = decaying(shared=False)

    found, _ = optimised(model, loved=("Div", "Exp"))

    assert operators(found)["Div"] <= 2  # beside the repeats, where one graph holds both
    assert operators(found)["Exp"] == LAYERS
    check_equal(model, found)


def rotating() -> ir.Model:
    """Layers that turn halves by tables as wide as a head, which are computed before the first."""
    graph = Graph()
    x, angles = graph.input(1, ROWS, SIZE), graph.input(1, ROWS, SIZE // 2)
    doubled = graph.node("Concat", angles, angles, axis=-1)
    cos, sin = graph.node("Cos", doubled), graph.node("Sin", doubled)
    ends = [graph.constant(np.asarray([n])) for n in (0, SIZE // 2, SIZE)]
    axis = graph.constant(np.asarray([-1]))
    for _ in range(LAYERS):
        inner = graph.node("MatMul", x, graph.weight())
        first, second = (graph.node("Slice", inner, ends[i], ends[i + 1], axis) for i in (0, 1))
        swapped = graph.node("Concat", graph.node("Neg", second), first, axis=-1)
        turned = graph.node("Add", graph.node("Mul", inner, cos), graph.node("Mul", swapped, sin))
        x = graph.node("Add", x, graph.node("Tanh", turned))
    return graph.model(x)


def test_tables_that_exporters_double_are_seen_through_in_every_layer() -> None:
    model = rotating()

    found, _ = optimised(model, loved=("RotaryEmbedding",), rules=all_rules())

    counts = operators(found)
    assert counts["RotaryEmbedding"] == LAYERS
    assert (counts["Cos"], counts["Sin"]) == (1, 1)
    (cos,) = (node for node in found.graph if node.op_type == "Cos")
    assert cos.outputs[0].shape is not None
    assert cos.outputs[0].shape[-1] == SIZE // 2
    check_equal(model, found)
