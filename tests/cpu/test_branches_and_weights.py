"""Places inside If, and weights of operators that have no forms of their own: both are part of the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate import gain
from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.places import find_places, find_weights
from tamago.compiler.approximate.taken_branches import taken_branches
from tamago.compiler.facts import Array

WIDTH = 64
FLOATS = np.random.default_rng(0).standard_normal((3, WIDTH, WIDTH)).astype(np.float32) / 8


@pytest.fixture(autouse=True)
def _time_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of microseconds beside a busy suite: that what is slower is not returned has tests of its own."""
    monkeypatch.setattr(gain, "NO_SLOWER", 0.0)


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


def smallest(model: onnx.ModelProto, samples: Sequence[Mapping[str, Array]], rise: float) -> tamago.CompiledModel:
    """By size, within a relative error of the outputs."""
    return tamago.compile(
        model,
        samples[0],
        budget=tamago.Budget(rise=rise),
        calibration=[(s, None) for s in samples],
        objective="size",
        threads=1,
        store=":memory:",
    )


def account(compiled: tamago.CompiledModel) -> Approximation:
    found = compiled.report.approximation
    assert found is not None
    return found


def test_only_branches_that_calibration_takes_are_approximated() -> None:
    compiled = smallest(with_branches(), [feeds(True, bool(seed % 2), seed) for seed in range(48)], 0.05)

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

    compiled = smallest(model, samples, rise)

    assert compiled.report.before.bytes / compiled.report.after.bytes >= smaller
    assert (account(compiled).proof is None) == (smaller == 1.0)


def same_names() -> onnx.ModelProto:
    """If(flag, a, b) whose branches use the same names for different widths."""
    generator = np.random.default_rng(3)

    def one(name: str, inner: int) -> Any:
        weights = {"P": (WIDTH, inner), "Q": (inner, WIDTH)}
        return helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "P"], ["h"], name="first"),
                helper.make_node("Tanh", ["h"], ["t"], name="tanh"),
                helper.make_node("MatMul", ["t", "Q"], ["o"], name="second"),
            ],
            name,
            [],
            [value("o", ["n", WIDTH])],
            [
                numpy_helper.from_array(generator.standard_normal(s).astype(np.float32) / 8, n)
                for n, s in weights.items()
            ],
        )

    node = helper.make_node("If", ["flag"], ["y"], name="if", then_branch=one("a", 48), else_branch=one("b", 96))
    inputs = [value("x", ["n", WIDTH]), value("flag", [], TensorProto.BOOL)]
    graph = helper.make_graph([node], "g", inputs, [value("y", ["n", WIDTH])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_branches_that_share_names_are_told_apart() -> None:
    model, target = same_names(), OnnxRuntime(1)
    samples = [{k: v for k, v in feeds(False, False, seed).items() if k != "deep"} for seed in range(32)]

    compiled = smallest(model, samples, 0.03)

    assert account(compiled).proof is not None, account(compiled).lines()
    for flag, error in ((True, 1e-5), (False, 0.04)):
        given = {k: v for k, v in feeds(flag, False, 99).items() if k != "deep"}
        wanted = target.lower(ir.from_proto(model))(given)[0]
        found = target.lower(compiled.graph)(given)[0]
        assert np.linalg.norm(found - wanted) <= error * np.linalg.norm(wanted)


def test_a_file_that_is_small_already_is_not_called_smaller() -> None:
    codes = np.random.default_rng(4).integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"], name="decoded"),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    weights = [
        numpy_helper.from_array(codes, "codes"),
        numpy_helper.from_array(np.asarray(0.01, np.float32), "scale"),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", ["n", WIDTH])], [value("y", ["n", WIDTH])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    samples = [{"x": feeds(True, True, seed)["x"]} for seed in range(16)]

    compiled = smallest(model, samples, 0.001)

    assert compiled.report.after.bytes <= compiled.report.before.bytes


def test_integers_alone_cannot_be_judged_without_a_loss() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["":18]> g (float[n,4] x) => (int64[n] y) { y = ArgMax<axis=1, keepdims=0>(x) }'
    )
    samples = [({"x": np.random.default_rng(i).standard_normal((2, 4)).astype(np.float32)}, None) for i in range(8)]

    with pytest.raises(tamago.TamagoError, match="U046"):
        tamago.compile(model, samples[0][0], budget=tamago.Budget(), calibration=samples, threads=1, store=":memory:")
