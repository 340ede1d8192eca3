"""Places inside If, and weights of operators that have no forms of their own: both are part of the choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.places import find_places, find_weights
from tamago.compiler.approximate.taken_branches import taken_branches
from tamago.compiler.facts import Array

WIDTH = 64
FLOATS = np.random.default_rng(0).standard_normal((3, WIDTH, WIDTH)).astype(np.float32) / 8


def value(name: str, shape: list[int | str], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def branch(name: str, weight: Array, inner: list[Any] | None = None, out: str = "") -> Any:
    """Products with a weight of its own, in a graph that reads `x` from outside."""
    nodes = [
        helper.make_node("MatMul", ["x", f"w_{name}"], [f"p_{name}"], name=f"product_{name}"),
        helper.make_node("Tanh", [f"p_{name}"], [f"t_{name}"], name=f"tanh_{name}"),
        *(inner or []),
    ]
    output = out or f"t_{name}"
    weights = [numpy_helper.from_array(weight, f"w_{name}")]
    return helper.make_graph(nodes, name, [], [value(output, ["n", WIDTH])], weights)


def with_branches() -> onnx.ModelProto:
    """If(flag, If(deep, a, b), c): the inner If reads what the outer branch computed."""
    inner = helper.make_node(
        "If",
        ["deep"],
        ["o_outer"],
        name="inner",
        then_branch=branch("a", FLOATS[0]),
        else_branch=branch("b", FLOATS[1]),
    )
    then = helper.make_graph([inner], "outer", [], [value("o_outer", ["n", WIDTH])])
    node = helper.make_node("If", ["flag"], ["y"], name="outer", then_branch=then, else_branch=branch("c", FLOATS[2]))
    inputs = [value("x", ["n", WIDTH]), value("flag", [], TensorProto.BOOL), value("deep", [], TensorProto.BOOL)]
    graph = helper.make_graph([node], "g", inputs, [value("y", ["n", WIDTH])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def feeds(flag: bool, deep: bool, seed: int = 0) -> dict[str, Array]:
    x = np.random.default_rng(seed).standard_normal((4, WIDTH)).astype(np.float32)
    return {"x": x, "flag": np.asarray(flag), "deep": np.asarray(deep)}


@pytest.mark.parametrize(
    ("flag", "deep", "wanted"),
    [(True, True, (("outer", True), ("inner", True))), (True, False, (("outer", True), ("inner", False)))],
)
def test_taken_branches_stand_in_place(flag: bool, deep: bool, wanted: Any) -> None:
    model, target = ir.from_proto(with_branches()), OnnxRuntime(1)
    given = feeds(flag, deep)

    taken = taken_branches(model, given, target)

    assert taken.decisions == wanted
    assert [n.op_type for n in taken.program.graph] == ["MatMul", "Tanh"]
    assert any(n.op_type == "If" for n in model.graph), "the model itself is not changed"
    np.testing.assert_array_equal(target.lower(taken.program)(given)[0], target.lower(model)(given)[0])
    assert taken.name("t_a" if deep else "t_b") == "y"
    assert taken.name("x") == "x"


def test_a_program_without_branches_is_itself() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model('<ir_version: 10, opset_import: ["":18]> g (float[2] x) => (float[2] y) { y = Abs(x) }')
    )

    assert taken_branches(model, {"x": np.zeros(2, np.float32)}, OnnxRuntime(1)).program is model


def test_places_in_branches_are_found() -> None:
    assert {p.name for p in find_places(ir.from_proto(with_branches()).graph)} == {
        "product_a",
        "product_b",
        "product_c",
    }


def account(compiled: tamago.CompiledModel) -> Approximation:
    found = compiled.report.approximation
    assert found is not None
    return found


def test_only_branches_that_calibration_takes_are_approximated() -> None:
    calibration = [(feeds(True, bool(seed % 2), seed), None) for seed in range(48)]

    compiled = tamago.compile(
        with_branches(),
        feeds(True, True),
        budget=tamago.Budget(rise=0.05),
        calibration=calibration,
        objective="size",
        threads=1,
        store=":memory:",
    )

    assert account(compiled).proof is not None, account(compiled).lines()
    weights = [v.const_value for g in (compiled.graph.graph, *bodies(compiled)) for v in g.initializers.values()]
    whole = [w for w in weights if w is not None and w.dtype == ir.DataType.FLOAT and w.size == WIDTH * WIDTH]
    assert len(whole) == 1, "the branch that no sample takes stays as it is"
    np.testing.assert_array_equal(whole[0].numpy(), FLOATS[2])
    assert any("do not reach" in reason for _, _, reason in account(compiled).refused)


def bodies(compiled: tamago.CompiledModel) -> list[ir.Graph]:
    return [g for g in compiled.graph.graph.subgraphs() if g is not compiled.graph.graph]


def recurrent() -> onnx.ModelProto:
    """An LSTM of random weights: no place reads them."""
    hidden, generator = 48, np.random.default_rng(1)
    arrays = {
        "w": generator.standard_normal((1, 4 * hidden, WIDTH)).astype(np.float32) / 8,
        "r": generator.standard_normal((1, 4 * hidden, hidden)).astype(np.float32) / 8,
    }
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="lstm", hidden_size=hidden)
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", [5, 1, WIDTH])],
        [value("y", [5, 1, 1, hidden])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_weights_of_any_operator_are_found_once() -> None:
    graph = ir.from_proto(recurrent()).graph

    assert not find_places(graph)
    assert {w.name for w in find_weights(graph, [])} == {"w", "r"}
    inside = ir.from_proto(with_branches()).graph
    assert not find_weights(inside, find_places(inside))


@pytest.mark.parametrize(("rise", "smaller"), [(0.02, 3.3), (1e-7, 1.0)])
def test_a_smaller_file_has_smaller_recurrent_weights(rise: float, smaller: float) -> None:
    model = recurrent()
    generator = np.random.default_rng(2)
    samples = [{"x": generator.standard_normal((5, 1, WIDTH)).astype(np.float32)} for _ in range(32)]

    compiled = tamago.compile(
        model,
        samples[0],
        budget=tamago.Budget(rise=rise),
        calibration=[(s, None) for s in samples],
        objective="size",
        threads=1,
        store=":memory:",
    )

    assert compiled.report.before.bytes / compiled.report.after.bytes >= smaller
    assert (account(compiled).proof is None) == (smaller == 1.0)
