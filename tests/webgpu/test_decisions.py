"""Inputs that decide which branch is taken: each of their values has a program without branches."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.backends.webgpu.decisions import decided, deciding
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.partition import Partitioned
from tests.node_cases import floats
from tests.webgpu.kernels import HEAD, close

RATES = """
agraph (float[2,8] x, int64 rate) => (float[2,N] y) {
  wide = Constant<value = int64 {16}>()
  condition = Equal(rate, wide)
  z = Relu(x)
  y = If(condition) <
    then_branch = yes () => (float[2,A] a) { a = Exp(z) },
    else_branch = no () => (float[2,B] b) {
      from = Constant<value = int64[1] {2}>()
      to = Constant<value = int64[1] {4}>()
      axis = Constant<value = int64[1] {1}>()
      b = Slice(z, from, to, axis)
    }
  >
}
"""
DATA = """
agraph (float[2,8] x, int64 rate) => (float[2,8] y) {
  zero = Constant<value = float {0.0}>()
  sum = ReduceSum<keepdims=0>(x)
  condition = Greater(sum, zero)
  y = If(condition) <
    then_branch = yes () => (float[2,8] a) { a = Exp(x) },
    else_branch = no () => (float[2,8] b) { b = Neg(x) }
  >
}
"""


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def partitioned(text: str, device: Device) -> Partitioned:
    return Partitioned(ir.from_proto(model(text)), device, OnnxRuntime().lower)


def test_the_branch_is_taken_for_each_value(device: Device) -> None:
    program, right = partitioned(RATES, device), Reference(ir.from_proto(model(RATES)))
    for rate in (16, 8, 16, 9):
        feeds = {"x": floats(2, 8, seed=rate), "rate": np.asarray(rate, np.int64)}
        (y,) = program(feeds)
        close(y, right(feeds)[0])
        assert y.shape == ((2, 8) if rate == 16 else (2, 2))
        assert not program.note


def test_the_programs_of_many_values_are_not_all_kept(device: Device) -> None:
    program = partitioned(RATES, device)
    for rate in range(9):
        program({"x": floats(2, 8), "rate": np.asarray(rate, np.int64)})
    assert list(program._decided) == [(5,), (6,), (7,), (8,)]  # pyright: ignore[reportPrivateUsage]


def test_other_runs_take_the_branch_too(device: Device) -> None:
    program, feeds = partitioned(RATES, device), {"x": floats(2, 8), "rate": np.asarray(16, np.int64)}
    (y,) = program.run_keeping(feeds)
    close(np.asarray(y), np.exp(np.maximum(feeds["x"], 0)))
    program.repeated(feeds)()


def test_what_the_data_decides_is_left_to_the_other_runtime(device: Device) -> None:
    program, right = partitioned(DATA, device), Reference(ir.from_proto(model(DATA)))
    for seed in (1, 2, 3):
        feeds = {"x": floats(2, 8, seed=seed), "rate": np.asarray(0, np.int64)}
        close(program(feeds)[0], right(feeds)[0])
    assert "If" in program.note


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (RATES, ["rate"]),
        (DATA, []),
        (RATES.replace("int64 rate", "int64[1] rate"), ["rate"]),
        (RATES.replace("int64 rate", "int64[K] rate"), []),
        (RATES.replace("int64 rate", "float rate").replace("int64 {16}", "float {16.0}"), []),
    ],
)
def test_which_inputs_decide(text: str, wanted: list[str]) -> None:
    assert deciding(ir.from_proto(model(text)).graph) == wanted


def test_the_original_keeps_its_inputs() -> None:
    original = ir.from_proto(model(RATES))
    found = decided(original, {"rate": np.asarray(3, np.int32)})
    assert [v.name for v in original.graph.inputs] == ["x", "rate"]
    assert [v.name for v in found.graph.inputs] == ["x"]
    assert [n.op_type for n in found.graph] == ["Relu", "Slice"]
    assert "If" in [n.op_type for n in original.graph]
