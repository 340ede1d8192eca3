"""Products in few bits, and of one row, with what stands before, beside and behind them; and what is left as it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.regions import fused_products, merged_linears
from tamago.backends.triton.run import Program
from tamago.compiler.facts import Array
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.compiler.operators import attach
from tamago.compiler.opset import TARGET

WIDTH, HIDDEN, BLOCK = 64, 96, 32
FLOAT = ir.TensorType(ir.DataType.FLOAT)


class Graph:
    """A graph under construction."""

    def __init__(self, *, packed: bool, zeros: bool = True, rows: int = 1) -> None:
        self.packed, self.zeros, self.rows = packed, zeros, rows
        self.generator = np.random.default_rng(0)
        self.x = ir.Value(name="x", shape=ir.Shape([1, rows, WIDTH]), type=FLOAT)
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def constant(self, array: Array) -> ir.Value:
        self.constants.append(new_constant(f"c{len(self.constants)}", array))
        return self.constants[-1]

    def node(self, op: str, *inputs: ir.Value | None, domain: str = "", **attributes: float) -> ir.Value:
        made = [ir.AttrInt64(k, v) if isinstance(v, int) else ir.AttrFloat32(k, v) for k, v in attributes.items()]
        self.nodes.append(ir.Node(domain, op, inputs, made, name=f"n{len(self.nodes)}"))
        self.nodes[-1].outputs[0].name = f"v{len(self.nodes)}"
        return self.nodes[-1].outputs[0]

    def product(self, x: ir.Value, k: int, n: int, bias: bool = False) -> ir.Value:
        if not self.packed:
            return self.node("MatMul", x, self.constant(self.generator.random((k, n), np.float32) / 8))
        blocks = k // BLOCK
        codes = self.constant(self.generator.integers(0, 256, (n, blocks, BLOCK // 2)).astype(np.uint8))
        scales = self.constant(self.generator.random((n, blocks), np.float32) / 64)
        zeros = self.constant(self.generator.integers(0, 256, n * ((blocks + 1) // 2)).astype(np.uint8))
        operands = [x, codes, scales, zeros if self.zeros else None]
        if bias:
            operands += [None, self.constant(self.generator.random(n, np.float32))]
        sizes = {"K": k, "N": n, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        return self.node("MatMulNBits", *operands, domain="com.microsoft", **sizes)

    def norm(self, x: ir.Value, **attributes: Any) -> ir.Value:
        return self.node("RMSNormalization", x, self.constant(self.generator.random(WIDTH, np.float32)), **attributes)

    def silu(self, x: ir.Value) -> ir.Value:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def model(self, *outputs: ir.Value) -> ir.Model:
        opsets = {"": TARGET, "com.microsoft": 1}
        for value in outputs:
            value.type = FLOAT
        graph = ir.Graph(
            [self.x], outputs, nodes=self.nodes, initializers=self.constants, opset_imports=opsets, name="g"
        )
        found = ir.Model(graph, ir_version=10)
        infer(found)
        return found


def layer(graph: Graph) -> ir.Model:
    """A gated layer behind a norm, and a residual."""
    n = graph.norm(graph.x, epsilon=1e-3, axis=-1)
    gate, up = graph.product(n, WIDTH, HIDDEN), graph.product(n, WIDTH, HIDDEN)
    hidden = graph.node("Mul", graph.silu(gate), up)
    return graph.model(graph.node("Add", graph.x, graph.product(hidden, HIDDEN, WIDTH)))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph)


def check_equal(wanted: ir.Model, found: ir.Model, rows: int) -> None:
    """The same outputs in ONNX Runtime and as an FX program, and a file that says what it needs."""
    for node in (*wanted.graph, *found.graph):
        node.attributes.pop("accuracy_level", None)  # other arithmetic, in ONNX Runtime alone
    attach(found)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, rows, WIDTH)).astype(np.float32)}
    for a, b, c in zip(
        Plain(wanted, 1)(feeds), Plain(found, 1)(feeds), Program(found, device="cpu")(feeds), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)
        np.testing.assert_allclose(c, a, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("packed", "zeros", "rows"), [(True, True, 1), (True, False, 3), (False, True, 1)])
def test_a_layer_becomes_two_kernels(packed: bool, zeros: bool, rows: int) -> None:
    model = layer(Graph(packed=packed, zeros=zeros, rows=rows))

    found = fused_products(model)

    assert found is not None
    ending = "NBits" if packed else ""
    assert operators(found) == {f"NormSwiGLU{ending}": 1, f"LinearAdd{ending}": 1}
    check_equal(model, found, rows)


def test_products_of_several_rows_are_left_to_others_unless_they_are_in_few_bits() -> None:
    assert fused_products(layer(Graph(packed=False, rows=3))) is None


@pytest.mark.parametrize("packed", [True, False])
def test_a_product_and_its_norm_become_one(packed: bool) -> None:
    graph = Graph(packed=packed)
    n = graph.norm(graph.x)
    model = graph.model(graph.product(n, WIDTH, HIDDEN), n)  # the norm is read elsewhere too, and stays

    found = fused_products(model)

    assert found is not None
    assert operators(found) == {"NormLinearNBits" if packed else "NormLinear": 1, "RMSNormalization": 1}
    check_equal(model, found, 1)


def test_what_is_already_one_kernel_is_left_alone() -> None:
    graph = Graph(packed=True)
    assert fused_products(graph.model(graph.product(graph.x, WIDTH, HIDDEN))) is None
    graph = Graph(packed=True)
    biased = graph.product(graph.norm(graph.x), WIDTH, HIDDEN, bias=True)
    assert fused_products(graph.model(biased)) is None


def test_a_sum_that_repeats_the_row_is_left_alone() -> None:
    graph = Graph(packed=True)
    wide = graph.constant(np.ones((4, 1, HIDDEN), np.float32))
    assert fused_products(graph.model(graph.node("Add", graph.product(graph.x, WIDTH, HIDDEN), wide))) is None


def test_a_norm_over_another_axis_stays() -> None:
    graph = Graph(packed=True)
    scale = graph.constant(np.ones((1, WIDTH), np.float32))
    n = graph.node("RMSNormalization", graph.x, scale, axis=1)
    assert fused_products(graph.model(graph.product(n, WIDTH, HIDDEN))) is None


def test_a_gate_that_others_read_is_not_taken_in() -> None:
    graph = Graph(packed=True)
    gate, up = graph.product(graph.x, WIDTH, HIDDEN), graph.product(graph.x, WIDTH, HIDDEN)
    assert fused_products(graph.model(graph.node("Mul", graph.silu(gate), up), graph.node("Neg", gate))) is None


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_products_of_one_value_become_one(normed: bool, zeros: bool) -> None:
    graph = Graph(packed=True, zeros=zeros)
    n = graph.norm(graph.x) if normed else graph.x
    model = graph.model(*(graph.product(n, WIDTH, count) for count in (HIDDEN, 32, 16)))
    fused = fused_products(model) or model

    found = merged_linears(fused)

    assert found is not None
    assert operators(found) == {"NormLinearNBits" if normed else "MatMulNBits": 1, "Split": 1}
    check_equal(model, found, 1)


def test_products_with_a_bias_or_of_other_formats_stay_several() -> None:
    graph = Graph(packed=True)
    biased = [graph.product(graph.x, WIDTH, HIDDEN, bias=True) for _ in range(2)]
    assert merged_linears(graph.model(*biased)) is None
    graph = Graph(packed=True)
    other = graph.product(graph.x, WIDTH, HIDDEN)
    graph.zeros = False
    assert merged_linears(graph.model(graph.product(graph.x, WIDTH, HIDDEN), other)) is None


def gemm(graph: Graph, *, bias: bool = True, **attributes: Any) -> ir.Value:
    """A Gemm of the row."""
    row = graph.node("Reshape", graph.x, graph.constant(np.array([1, WIDTH])))
    if attributes.get("transA"):
        row = graph.node("Reshape", graph.x, graph.constant(np.array([WIDTH, 1])))
    shape = (HIDDEN, WIDTH) if attributes.get("transB") else (WIDTH, HIDDEN)
    operands = [row, graph.constant(graph.generator.random(shape, np.float32) / 8)]
    if bias:
        operands.append(graph.constant(graph.generator.random(HIDDEN, np.float32)))
    return graph.node("Gemm", *operands, **attributes)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, HIDDEN)])
def test_a_bias_may_be_one_number_or_a_row(shape: tuple[int, ...]) -> None:
    graph = Graph(packed=False)
    row = graph.node("Reshape", graph.x, graph.constant(np.array([1, WIDTH])))
    w, b = graph.generator.random((WIDTH, HIDDEN), np.float32) / 8, graph.generator.random(shape, np.float32)
    model = graph.model(graph.node("Gemm", row, graph.constant(w), graph.constant(np.asarray(b, np.float32))))

    found = fused_products(model)

    assert found is not None
    assert operators(found) == {"Reshape": 1, "LinearAdd": 1}
    check_equal(model, found, 1)


def test_a_gate_of_gemms_is_one_kernel_and_a_bias_may_be_computed() -> None:
    graph = Graph(packed=False)
    row = graph.node("Reshape", graph.x, graph.constant(np.array([1, WIDTH])))
    shape = HIDDEN, WIDTH
    weights = [graph.constant(graph.generator.random(shape, np.float32) / 8) for _ in range(2)]
    gate, up = (graph.node("Gemm", row, w, transB=1) for w in weights)
    hidden = graph.node("Mul", graph.silu(gate), up)
    w = graph.constant(graph.generator.random((HIDDEN, HIDDEN), np.float32) / 8)
    model = graph.model(graph.node("Gemm", hidden, w, gemm(graph)))

    found = fused_products(model)

    assert found is not None
    assert {k: v for k, v in operators(found).items() if k != "Reshape"} == {"LinearAdd": 2, "SwiGLU": 1}
    check_equal(model, found, 1)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gemm_of_one_row_and_its_bias_become_one(bias: bool, turned: int) -> None:
    graph = Graph(packed=False)
    model = graph.model(gemm(graph, bias=bias, transB=turned))

    found = fused_products(model)

    assert found is not None
    assert operators(found) == {"Reshape": 1, "LinearAdd" if bias else "Linear": 1}
    check_equal(model, found, 1)


def test_what_follows_a_bias_is_added_after_it() -> None:
    graph = Graph(packed=False)
    residual = graph.constant(graph.generator.random(HIDDEN, np.float32))
    model = graph.model(graph.node("Add", gemm(graph), residual))

    found = fused_products(model)

    assert found is not None
    assert operators(found) == {"Reshape": 1, "LinearAdd": 1, "Add": 1}
    check_equal(model, found, 1)


def test_a_gate_with_biases_is_not_taken_in() -> None:
    graph = Graph(packed=False)
    gate, up = gemm(graph), gemm(graph)
    model = graph.model(graph.node("Mul", graph.silu(gate), up))

    found = fused_products(model)

    assert found is not None
    assert operators(found)["LinearAdd"] == 2
    check_equal(model, found, 1)


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}])
def test_a_gemm_that_scales_or_turns_is_left_alone(attributes: dict[str, Any]) -> None:
    graph = Graph(packed=False)
    assert fused_products(graph.model(gemm(graph, **attributes))) is None
