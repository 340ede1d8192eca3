"""Recurrent layers beside ONNX Runtime's: directions, first states, lengths, layouts, activations, awkward sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.partition import Partitioned
from tamago.backends.webgpu.run import Loaded
from tests.node_cases import floats

Array = np.ndarray[Any, Any]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass
class Layer:
    """A layer with random weights."""

    kind: str
    steps: int = 5
    batch: int = 3
    inputs: int = 7
    hidden: int = 6
    direction: str = "forward"
    bias: bool = True
    states: bool = True
    peephole: bool = False
    lengths: Sequence[int] = ()
    half: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def outputs(self) -> list[str]:
        return ["y", "h", "c"] if self.kind == "LSTM" else ["y", "h"]

    def model(self) -> onnx.ModelProto:
        dtype = np.float16 if self.half else np.float32
        scale = min(0.3, 2 / np.sqrt(self.hidden))
        wide, lead = GATES[self.kind] * self.hidden, self.directions
        weights = {"w": floats(lead, wide, self.inputs, seed=1), "r": floats(lead, wide, self.hidden, seed=2)}
        weights |= {"b": floats(lead, 2 * wide, seed=3)} if self.bias else {}
        weights |= {"p": floats(lead, 3 * self.hidden, seed=4)} if self.peephole else {}
        inputs = ["x", "w", "r", "b" if self.bias else "", "l" if self.lengths else "", "h0" if self.states else ""]
        inputs += ["c0" if self.states else "", "p" if self.peephole else ""] if self.kind == "LSTM" else []
        node = helper.make_node(
            self.kind, inputs, self.outputs, hidden_size=self.hidden, direction=self.direction, **self.attributes
        )
        kind = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        feeds = self.feeds()
        given = [
            helper.make_tensor_value_info(name, TensorProto.INT32 if name == "l" else kind, array.shape)
            for name, array in feeds.items()
        ]
        results = [helper.make_tensor_value_info(name, kind, None) for name in self.outputs]
        constants = [numpy_helper.from_array((scale * a).astype(dtype), name) for name, a in weights.items()]
        graph = helper.make_graph([node], "g", given, results, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)

    def feeds(self) -> dict[str, Array]:
        dtype = np.float16 if self.half else np.float32
        found: dict[str, Array] = {"x": floats(self.steps, self.batch, self.inputs, seed=5)}
        if self.states:
            found["h0"] = floats(self.directions, self.batch, self.hidden, seed=6)
            found |= {"c0": floats(self.directions, self.batch, self.hidden, seed=7)} if self.kind == "LSTM" else {}
        found = {name: array.astype(dtype) for name, array in found.items()}
        return found | ({"l": np.asarray(self.lengths, np.int32)} if self.lengths else {})


def near(ours: Any, right: Any, allowed: float = 3e-6) -> None:
    assert ours.shape == right.shape
    np.testing.assert_allclose(ours, right, rtol=0, atol=allowed)


def check(layer: Layer, device: Device) -> None:
    feeds = layer.feeds()
    plan, weights = plan_of(ir.from_proto(layer.model()), half=device.half, limits=device.limits)
    found = Loaded(plan, weights, device)(feeds)
    wanted = Reference(ir.from_proto(layer.model()))(feeds)
    for ours, right in zip(found, wanted, strict=True):
        near(ours, right)


BASIC = list(product(GATES, ("forward", "reverse", "bidirectional"), (True, False)))


@pytest.mark.parametrize(("kind", "direction", "states"), BASIC)
def test_directions_and_first_states(kind: str, direction: str, states: bool, device: Device) -> None:
    check(Layer(kind, direction=direction, states=states, bias=states), device)


@pytest.mark.parametrize(("kind", "direction"), list(product(GATES, ("forward", "reverse", "bidirectional"))))
def test_sequences_of_their_own_lengths(kind: str, direction: str, device: Device) -> None:
    check(Layer(kind, direction=direction, lengths=(5, 1, 3)), device)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden"), [(1, 1, 1, 1), (1, 1, 40, 128), (2, 1, 3, 300), (33, 2, 5, 17)]
)
def test_sizes(kind: str, steps: int, batch: int, inputs: int, hidden: int, device: Device) -> None:
    check(Layer(kind, steps, batch, inputs, hidden, attributes={"clip": 3.0}), device)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gru_that_resets_after_the_product(direction: str, bias: bool, device: Device) -> None:
    more = {"linear_before_reset": 1}
    check(Layer("GRU", direction=direction, bias=bias, attributes=more), device)
    check(Layer("GRU", direction=direction, bias=bias, lengths=(2, 5, 1), attributes=more), device)


def test_an_lstm_that_looks_at_its_cells(device: Device) -> None:
    check(Layer("LSTM", peephole=True, direction="bidirectional"), device)


ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "numbers of their own": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "ScaledTanh", "Affine"],
            "activation_alpha": [0.3, 1.2, 0.7],
            "activation_beta": [0.4, 0.6, 0.1],
        },
    ),
    "numbers that are left out": ("LSTM", {"activations": ["HardSigmoid", "Elu", "LeakyRelu"]}),
    "numbers for those that take them": (
        "GRU",
        {"activations": ["Sigmoid", "LeakyRelu"], "activation_alpha": [0.2]},
    ),
    "any case": ("GRU", {"activations": ["sigmoid", "SOFTSIGN"]}),
    "one that grows": ("RNN", {"activations": ["Softplus"], "clip": 0.5}),
    "a rectifier": ("RNN", {"activations": ["Relu"]}),
    "a threshold": ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.25]}),
    "all clipped": ("LSTM", {"clip": 0.4}),
    "coupled gates": ("LSTM", {"input_forget": 1}),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, device: Device) -> None:
    kind, attributes = ACTIVATIONS[name]
    check(Layer(kind, attributes=attributes), device)


def test_each_direction_has_activations_of_its_own(device: Device) -> None:
    check(Layer("RNN", direction="bidirectional", attributes={"activations": ["Tanh", "Relu"]}), device)
    names = ["Sigmoid", "Tanh", "HardSigmoid", "Relu"]
    check(Layer("GRU", direction="bidirectional", attributes={"activations": names}), device)


@pytest.mark.parametrize("kind", GATES)
def test_half_precision(kind: str, device: Device) -> None:
    layer = Layer(kind, half=True)
    feeds = layer.feeds()
    plan, weights = plan_of(ir.from_proto(layer.model()), half=device.half)
    found = Loaded(plan, weights, device)(feeds)
    single = Layer(kind)
    wanted = Reference(ir.from_proto(single.model()))({n: a.astype(np.float32) for n, a in feeds.items()})
    for ours, right in zip(found, wanted, strict=True):
        assert ours.dtype == np.float16
        near(ours, right, 5e-3)


@pytest.mark.parametrize("kind", GATES)
def test_sequences_first(kind: str, device: Device) -> None:
    layer = Layer(kind, direction="bidirectional", attributes={"layout": 1})
    feeds = layer.feeds()
    wanted = Reference(ir.from_proto(Layer(kind, direction="bidirectional").model()))(feeds)
    turned = {name: array.swapaxes(0, 1) for name, array in feeds.items()}
    proto = layer.model()
    for value in proto.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, turned[value.name].shape))

    plan, weights = plan_of(ir.from_proto(proto))
    y, *ends = Loaded(plan, weights, device)(turned)

    near(y, wanted[0].transpose(2, 0, 1, 3))
    for ours, right in zip(ends, wanted[1:], strict=True):
        near(ours, right.swapaxes(0, 1))


def test_all_steps_are_one_dispatch_beside_the_product() -> None:
    for steps in (5, 500):
        plan, _ = plan_of(ir.from_proto(Layer("LSTM", steps=steps).model()))
        recurrent = [d for d in plan.dispatches if "Recurrence" in d.label]
        assert len(recurrent) == 1
        assert len(plan.dispatches) <= 5  # the product, and a copy of each output


WRITTEN_OUT: dict[str, Layer] = {
    "LSTM, both directions": Layer("LSTM", 3, 2, 5, 700, direction="bidirectional"),
    "LSTM, backwards, without states": Layer("LSTM", 2, 1, 5, 700, direction="reverse", states=False, bias=False),
    "LSTM that looks at its cells": Layer("LSTM", 2, 2, 5, 700, peephole=True, attributes={"input_forget": 1}),
    "LSTM with numbers": Layer("LSTM", 2, 2, 5, 700, attributes=ACTIVATIONS["numbers of their own"][1] | {"clip": 1.0}),
    "GRU": Layer("GRU", 3, 2, 5, 900, direction="bidirectional"),
    "GRU that resets last": Layer("GRU", 2, 2, 5, 900, attributes={"linear_before_reset": 1}),
    "GRU that resets last, no bias": Layer("GRU", 2, 1, 5, 900, bias=False, attributes={"linear_before_reset": 1}),
    "GRU of one step": Layer("GRU", 1, 1, 5, 900, attributes={"activations": ["HardSigmoid", "Elu"]}),
    "RNN": Layer("RNN", 3, 2, 5, 2100, direction="reverse"),
    "RNN with a slope": Layer("RNN", 2, 1, 5, 2100, attributes={"activations": ["LeakyRelu"]}),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_few_steps_of_a_large_layer_are_written_out(name: str, device: Device) -> None:
    layer = WRITTEN_OUT[name]
    plan, weights = plan_of(ir.from_proto(layer.model()), half=device.half, limits=device.limits)
    assert not any("Recurrence" in d.label for d in plan.dispatches)
    found = Loaded(plan, weights, device)(layer.feeds())
    wanted = Reference(ir.from_proto(layer.model()))(layer.feeds())
    for ours, right in zip(found, wanted, strict=True):
        near(ours, right, 2e-5 * max(float(np.abs(right).max()), 1.0))


def test_many_steps_of_a_layer_that_no_workgroup_holds_are_left_to_the_other_runtime(device: Device) -> None:
    layer = Layer("LSTM", steps=17, batch=1, hidden=700)
    program = Partitioned(ir.from_proto(layer.model()), device, OnnxRuntime().lower)
    found, wanted = program(layer.feeds()), Reference(ir.from_proto(layer.model()))(layer.feeds())
    assert "LSTM" in program.note
    for ours, right in zip(found, wanted, strict=True):
        near(ours, right, 1e-3)
