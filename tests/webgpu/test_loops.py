"""Loops whose number of turns is known are written out; others are left to the other runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.run import Program
from tamago.compiler.errors import TamagoError
from tests.node_cases import floats
from tests.webgpu.kernels import HEAD, close

LOOP = """
agraph (float[2,3] x) => (float[2,3] y, float[N,2,3] all, float[N] numbers) {
  m = Constant<value = int64 {TURNS}>()
  go = Constant<value = bool {1}>()
  half = Constant<value = float {0.5}>()
  y, all, numbers = Loop(m, go, x) <body = turn (int64 i, bool c, float[2,3] v) =>
    (bool d, float[2,3] w, float[2,3] e, float n) {
    d = CONDITION
    s = Mul(v, half)
    n = Cast<to=1>(i)
    t = Add(s, n)
    w = Add(t, x)
    e = Neg(v)
  }>
}
"""
SCAN = """
agraph (float[2,3] h, float[2,4,3] x, float[5,4] z) => (float[2,3] y, float[2,4,3] all, float[5,4] turned) {
  y, all, turned = Scan<num_scan_inputs=2, scan_input_axes=[1,1], scan_input_directions=[0,1],
    scan_output_axes=[1,1], scan_output_directions=[1,0],
    body = turn (float[2,3] v, float[2,3] e, float[5] f) => (float[2,3] w, float[2,3] o, float[5] g) {
      s = Mul(v, e)
      w = Tanh(s)
      o = Add(w, h)
      g = Exp(f)
    }>(h, x, z)
}
"""
NESTED = """
agraph (float[3] x) => (float[3] y) {
  m = Constant<value = int64 {3}>()
  y = Loop(m, , x) <body = outer (int64 i, bool c, float[3] v) => (bool d, float[3] w) {
    d = Identity(c)
    k = Constant<value = int64 {2}>()
    w = Loop(k, , v) <body = within (int64 j, bool p, float[3] a) => (bool q, float[3] b) {
      q = Identity(p)
      t = Add(a, x)
      b = Sin(t)
    }>
  }>
}
"""


def model(text: str, turns: int = 4, condition: str = "Identity(c)") -> onnx.ModelProto:
    return parser.parse_model(HEAD + text.replace("TURNS", str(turns)).replace("CONDITION", condition))


def check(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], device: Device) -> None:
    found = Program(ir.from_proto(proto), device)(feeds)
    for ours, right in zip(found, Reference(ir.from_proto(proto))(feeds), strict=True):
        close(ours, right)


@pytest.mark.parametrize("turns", [1, 4, 11])
@pytest.mark.parametrize("condition", ["Identity(c)", "Constant<value = bool {1}>()"])
def test_a_loop_of_so_many_turns(turns: int, condition: str, device: Device) -> None:
    check(model(LOOP, turns, condition), {"x": floats(2, 3, seed=1)}, device)


def test_a_scan_along_any_axis_and_backwards(device: Device) -> None:
    check(model(SCAN), {"h": floats(2, 3), "x": floats(2, 4, 3), "z": floats(5, 4)}, device)


def test_a_loop_within_a_loop(device: Device) -> None:
    check(model(NESTED), {"x": floats(3)}, device)


def test_a_loop_that_never_turns_hands_its_state_through(device: Device) -> None:
    text = (
        "agraph (float[3] x) => (float[3] y) { m = Constant<value = int64 {0}>() z = Exp(x) y = Loop(m, , z) <body = "
    )
    text += " turn (int64 i, bool c, float[3] v) => (bool d, float[3] w) { d = Identity(c) w = Neg(v) }> }"
    check(model(text), {"x": floats(3)}, device)


@pytest.mark.parametrize(
    ("turns", "condition"), [(65, "Identity(c)"), (4, "Less(i, m)"), (4, "Constant<value = bool {0}>()")]
)
def test_many_turns_and_what_may_end_early_are_refused(turns: int, condition: str, device: Device) -> None:
    with pytest.raises(TamagoError) as error:
        Program(ir.from_proto(model(LOOP, turns, condition)), device)({"x": floats(2, 3)})
    assert error.value.code == "B031"
    assert "Loop" in str(error.value)
