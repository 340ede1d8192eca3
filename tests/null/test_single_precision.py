"""A program in half precision becomes one in single with casts at its borders, where types are ours to change."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.compiler.inference import infer
from tamago.compiler.ir import graphs, text
from tamago.compiler.rule import Skip
from tamago.compiler.single_precision import in_single_precision, may_compute_in_half

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


def parsed(body: str, domains: str = "") -> ir.Model:
    """From ONNX text, types inferred."""
    header = f'<ir_version: 11, opset_import: ["" : 23{domains}]>'
    model = ir.serde.deserialize_model(onnx.parser.parse_model(f"{header} {body}"))
    infer(model)
    return model


def widened(body: str) -> ir.Model:
    """In single precision, checked: types are consistent, and no node but the last casts makes halves."""
    model = parsed(body)
    before = [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)]
    in_single_precision(model)
    infer(model)
    onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)

    assert [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)] == before
    made = [v for g in graphs(model.graph) for node in g for v in node.outputs if v.dtype == HALF]
    assert all(v.is_graph_output() for v in made)
    return model


def refused(body: str, domains: str = "") -> str:
    """Why it stays as it is: and it does."""
    model = parsed(body, domains)
    before = text(model.graph)
    with pytest.raises(Skip) as reason:
        in_single_precision(model)
    assert text(model.graph) == before
    return str(reason.value)


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_casts_are_at_the_borders_only() -> None:
    model = widened("""
        g (float16[N, 2] x) => (float16[N, 2] y) <float16[2, 2] w = {15360, 16384, 48128, 0}> {
            a = Relu(x)
            b = MatMul(a, w)
            y = Tanh(b)
        }
    """)

    assert ops(model) == ["Cast", "Relu", "MatMul", "Tanh", "Cast"]
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    assert weight.dtype == SINGLE
    np.testing.assert_array_equal(weight.numpy(), [[1, 2], [-1, 0]])  # the text holds the bits of halves


def test_an_output_that_is_read_inside_is_read_as_it_was_computed() -> None:
    model = widened("""
        g (float16[4] x) => (float16[4] y, float16[4] z) {
            y = Exp(x)
            z = Neg(y)
        }
    """)

    (negation,) = (node for node in model.graph if node.op_type == "Neg")
    assert negation.inputs[0] is not None
    assert negation.inputs[0].dtype == SINGLE


def test_an_input_that_is_given_back_stays() -> None:
    model = widened("g (float16[4] x) => (float16[4] x, float16[4] y) { y = Exp(x) }")

    assert model.graph.outputs[0] is model.graph.inputs[0]


def test_a_constant_that_is_given_back_stays() -> None:
    model = widened("g (float16[2] x) => (float16[2] c, float16[2] y) <float16[2] c = {1, 2}> { y = Add(x, c) }")

    assert model.graph.outputs[0].dtype == HALF


def test_a_default_value_that_may_be_overridden_stays() -> None:
    model = widened("g (float16[2] x, float16[2] c = {1, 2}) => (float16[2] y) { y = Add(x, c) }")

    assert model.graph.initializers["c"].dtype == HALF


def test_attributes_that_name_half_name_single() -> None:
    model = widened("""
        g (float16[2] x, int64[1] n) => (float16[2] y) {
            c = ConstantOfShape<value: tensor = float16[1] {2}>(n)
            one = Constant<value: tensor = float16[1] {1}>()
            i = Cast<to: int = 10>(n)
            a = Add(x, c)
            b = Mul(a, one)
            y = Add(b, i)
        }
    """)

    assert all(v.dtype in (SINGLE, ir.DataType.INT64) or v.is_graph_output() for n in model.graph for v in n.outputs)


def test_branches_read_what_they_capture_in_single() -> None:
    model = widened("""
        g (float16[2] x, bool which) => (float16[2] y) {
            y = If(which) <
                then_branch = a () => (float16[2] p) { p = Exp(x) },
                else_branch = b () => (float16[2] q) <float16[2] c = {1, 2}> { q = Mul(x, c) }
            >
        }
    """)

    assert ops(model) == ["Cast", "If", "Cast"]


def test_what_was_single_already_is_joined() -> None:
    model = widened("""
        g (float16[2] x) => (float16[2] y) {
            a = Cast<to: int = 1>(x)
            b = Exp(a)
            c = Cast<to: int = 10>(b)
            y = Neg(c)
        }
    """)

    assert {v.dtype for n in model.graph for v in n.outputs if not v.is_graph_output()} == {SINGLE}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("g (float[2] x) => (float[2] y) { y = Exp(x) }", "nothing is computed in half"),
        (
            "g (float[2] x) => (float[2] y) <float16[2] w = {1, 2}> { v = Cast<to: int = 1>(w) y = Add(x, v) }",
            "nothing is computed in half",
        ),
        ("g (float16[2] x) => (float16[2] y) { a = Exp(x) y = my.own.Thing(a) }", "Thing"),
        ("g (float16[2] x) => (float16[2] y) { a = Exp(x) b = my.own.Thing(x) y = Add(a, b) }", "Thing"),
        (
            "g (float16[2] x, bool c) => (float16[2] y) { y = If(c) <then_branch = a () => (float16[2] p) "
            "{ p = Exp(x) }, else_branch = b () => (float16[2] x) { }> }",
            "gives back what is not its own",
        ),
        ("g (seq(float16[2]) x, int64 i) => (float16[2] y) { y = SequenceAt(x, i) }", "no tensor"),
    ],
    ids=["single", "stored in half", "unknown reads", "unknown makes", "body", "sequence"],
)
def test_what_is_not_ours_to_change_stays(body: str, words: str) -> None:
    assert words in refused(body, ', "my.own" : 1')


def test_bits_are_not_numbers() -> None:
    node = ir.Node("", "BitCast", [ir.Value(name="x", type=ir.TensorType(HALF), shape=ir.Shape([2]))], num_outputs=1)
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.INT16)
    (x,) = node.inputs
    assert x is not None
    other = ir.Node("", "Neg", [x], num_outputs=1)
    other.outputs[0].name, other.outputs[0].type = "z", ir.TensorType(HALF)
    graph = ir.Graph([x], [node.outputs[0], other.outputs[0]], nodes=[node, other], opset_imports={"": 26}, name="g")

    with pytest.raises(Skip, match="BitCast"):
        in_single_precision(ir.Model(graph, ir_version=11))


def test_an_operator_that_is_not_known_may_stand_where_there_are_no_halves() -> None:
    model = parsed(
        "g (float16[2] x, int64[2] i) => (float16[2] y, int64[2] j) { y = Exp(x) j = Neg(i) }", ', "my.own" : 1'
    )
    (negation,) = (node for node in model.graph if node.op_type == "Neg")
    negation.domain, negation.op_type = "my.own", "Count"
    in_single_precision(model)

    assert ops(model) == ["Cast", "Exp", "Count", "Cast"]


def test_a_model_is_looked_at_only_where_halves_are() -> None:
    assert may_compute_in_half(parsed("g (float16[2] x) => (float16[2] y) { y = Exp(x) }"))
    assert may_compute_in_half(
        parsed("g (float[2] x) => (float[2] y) <float16[2] w = {1, 2}> { v = Cast<to: int = 1>(w) y = Add(x, v) }")
    )
    assert not may_compute_in_half(parsed("g (float[2] x) => (float[2] y) { y = Exp(x) }"))
