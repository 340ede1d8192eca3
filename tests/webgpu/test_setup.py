"""What depends on nothing but weights: once, ahead of all runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.run import Program

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
CODES = {
    "w": RNG.integers(-127, 128, (32, 16, 3, 3)).astype(np.int8),
    "s": RNG.uniform(1e-3, 2e-3, (32, 1, 1, 1)).astype(np.float32),
}


def model_of(nodes: list[Any], x: list[int], outputs: list[str], weights: dict[str, Array]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def widened() -> list[Any]:
    return [helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), helper.make_node("Mul", ["c", "s"], ["f"])]


def agrees(model: ModelProto, device: Device, shape: list[int]) -> None:
    program, session = Program(ir.from_proto(model), device), onnxruntime.InferenceSession(model.SerializeToString())
    for seed in range(2):  # a second run reads what the first left
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        for found, wanted in zip(program({"x": x}), map(np.asarray, session.run(None, {"x": x})), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(np.abs(wanted).max()))


def test_weights_of_few_bits_are_made_wide_once(device: Device) -> None:
    model = model_of([*widened(), helper.make_node("Conv", ["x", "f"], ["y"])], [1, 16, 12, 12], ["y"], CODES)
    plan, weights = plan_of(ir.from_proto(model))

    assert (len(plan.setup), len(plan.dispatches)) == (1, 1)
    assert sum(array.nbytes for array in weights.values()) < 1.1 * CODES["w"].nbytes
    assert {plan.weights[b] for b in plan.spent} == {"w", "s"}
    agrees(model, device, [1, 16, 12, 12])


def test_weights_that_are_read_once_are_read_as_they_lie(device: Device) -> None:
    weights = {"w": RNG.integers(-127, 128, (64, 80)).astype(np.int8), "s": np.full(80, 1e-3, np.float32)}
    model = model_of([*widened(), helper.make_node("MatMul", ["x", "f"], ["y"])], [1, 64], ["y"], weights)
    plan, _ = plan_of(ir.from_proto(model))

    assert (len(plan.setup), len(plan.dispatches)) == (0, 1)
    agrees(model, device, [1, 64])


@pytest.mark.parametrize("last", ["Relu", "Identity"])
def test_an_output_is_no_part_of_it(device: Device, last: str) -> None:
    """Outputs are the runs' own, also where they are known ahead."""
    nodes = [*widened(), helper.make_node("Conv", ["x", "f"], ["y"]), helper.make_node(last, ["f"], ["z"])]
    model = model_of(nodes, [1, 16, 12, 12], ["y", "z"], CODES)

    agrees(model, device, [1, 16, 12, 12])


def test_what_follows_a_product_of_weights_is_each_runs(device: Device) -> None:
    """A root that is done once absorbs nothing that is not."""
    nodes = [
        *widened(),
        helper.make_node("Reshape", ["f", "flat"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axes"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    sizes = {"flat": np.array([32, 144]), "axes": np.array([1])}
    model = model_of(nodes, [5, 32], ["y"], CODES | sizes)
    plan, _ = plan_of(ir.from_proto(model))

    assert (len(plan.setup), len(plan.dispatches)) == (1, 1)
    agrees(model, device, [5, 32])
