"""Distinct blocks: repeats are found, differences are kept apart, borders lie where little lives."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tamago.compiler.blocks import LARGEST_BLOCK, find_blocks
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant


def layers(count: int, *, constant: float = 0.5, odd: int | None = None) -> ir.Model:
    """X ← x + relu(x·W)·c, with a weight of its own in each layer; the odd one has another constant."""
    generator = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape([2, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []

    def constant_value(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> ir.Value:
        weights.append(new_constant(name, array))
        return weights[-1]

    def node(op: str, *inputs: ir.Value) -> ir.Value:
        nodes.append(ir.Node("", op, inputs, num_outputs=1, name=f"{op}{len(nodes)}"))
        nodes[-1].outputs[0].name = f"v{len(nodes)}"
        return nodes[-1].outputs[0]

    value = x
    for i in range(count):
        w = constant_value(f"w{i}", generator.standard_normal((8, 8)).astype(np.float32))
        c = constant_value(f"c{i}", np.float32(9 if i == odd else constant).reshape(1))
        value = node("Add", value, node("Mul", node("Relu", node("MatMul", value, w)), c))
    graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 23}, name="layers")
    model = ir.Model(graph, ir_version=10)
    infer(model)
    return model


def test_layers_with_other_weights_are_one_block() -> None:
    (block,) = find_blocks(layers(12).graph)

    assert len(block.instances) == 12
    assert [n.op_type for n in block.nodes] == ["MatMul", "Relu", "Mul", "Add"]


def test_a_small_constant_tells_blocks_apart() -> None:
    blocks = find_blocks(layers(12, odd=5).graph)

    assert sum(len(b.nodes) * len(b.instances) for b in blocks) == 48
    assert max(len(b.instances) for b in blocks) < 12


def test_every_node_is_in_one_block_in_order() -> None:
    graph = layers(7, odd=2).graph
    instances = [i for b in find_blocks(graph) for i in b.instances]

    assert sorted(n.name or "" for i in instances for n in i.nodes) == sorted(n.name or "" for n in graph)


def test_long_stretches_are_cut() -> None:
    x = ir.Value(name="x", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes: list[ir.Node] = []
    value = x
    ops = ("Relu", "Abs", "Neg", "Exp", "Tanh")
    generator = np.random.default_rng(1)
    for i in range(3000):
        nodes.append(ir.Node("", ops[int(generator.integers(5))], [value], num_outputs=1, name=f"n{i}"))
        value = nodes[-1].outputs[0]
        value.name = f"v{i}"
    graph = ir.Graph([x], [value], nodes=nodes, opset_imports={"": 23}, name="chain")
    infer(ir.Model(graph, ir_version=10))

    sizes = [len(b.nodes) for b in find_blocks(graph)]

    assert max(sizes) <= LARGEST_BLOCK


def test_an_empty_graph_has_no_blocks() -> None:
    assert find_blocks(ir.Graph([], [], nodes=[], name="empty")) == []
