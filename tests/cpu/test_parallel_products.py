"""Products of one value with several matrices become one, where all of it is known."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.webgpu.regions import parallel_products
from tests.node_cases import floats


def model_of(nodes: list[onnx.NodeProto], outputs: list[str]) -> ir.Model:
    weights = {"w1": floats(6, 4, seed=1), "w2": floats(6, 3, seed=2), "w3": floats(5, 2, seed=3),
               "b1": floats(4, seed=4), "b2": floats(3, seed=5), "row": floats(1, 4, seed=6)}  # fmt: skip
    used = {name for node in nodes for name in node.input}
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, [2, 6]), info("z", TensorProto.FLOAT, [2, 5])],
        [info(name, TensorProto.FLOAT, ["M", "N"]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output)


def run(model: ir.Model) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(a) for a in session.run(None, {"x": floats(2, 6, seed=7), "z": floats(2, 5, seed=8)})]


def check(model: ir.Model, products: int) -> None:
    merged = parallel_products(model)
    assert merged is not None
    assert sum(n.op_type == "MatMul" for n in merged.graph) == products
    assert [v.name for v in merged.graph.outputs] == [v.name for v in model.graph.outputs]
    for wanted, found in zip(run(model), run(merged), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_two_products_of_one_value_become_one() -> None:
    check(model_of([node("MatMul", ["x", "w1"], "a"), node("MatMul", ["x", "w2"], "b")], ["a", "b"]), 1)


def test_their_biases_are_added_at_once() -> None:
    nodes = [node("MatMul", ["x", "w1"], "p"), node("Add", ["p", "b1"], "a"),
             node("MatMul", ["x", "w2"], "q"), node("Add", ["b2", "q"], "b")]  # fmt: skip
    model = model_of(nodes, ["a", "b"])
    check(model, 1)
    merged = parallel_products(model)
    assert merged is not None
    assert sum(n.op_type == "Add" for n in merged.graph) == 1


def test_what_is_read_before_its_bias_is_added_is_merged_without_it() -> None:
    nodes = [node("MatMul", ["x", "w1"], "p"), node("Add", ["p", "b1"], "a"), node("Relu", ["p"], "r"),
             node("MatMul", ["x", "w2"], "b")]  # fmt: skip
    check(model_of(nodes, ["a", "r", "b"]), 1)


def test_a_sum_that_is_no_bias_stays_outside() -> None:
    nodes = [node("MatMul", ["x", "w1"], "p"), node("Add", ["p", "row"], "a"), node("MatMul", ["x", "w2"], "b")]
    check(model_of(nodes, ["a", "b"]), 1)


def test_products_of_different_values_stay_as_they_are() -> None:
    nodes = [node("MatMul", ["x", "w1"], "a"), node("MatMul", ["z", "w3"], "b")]
    assert parallel_products(model_of(nodes, ["a", "b"])) is None


def test_a_product_of_two_variables_stays_as_it_is() -> None:
    nodes = [node("Transpose", ["x"], "t"), node("MatMul", ["x", "t"], "a"), node("MatMul", ["x", "w1"], "b")]
    assert parallel_products(model_of(nodes, ["a", "b"])) is None
