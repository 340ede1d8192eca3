"""Integer convolutions in NHWC compute the same codes, with transposes only where they enter and leave."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from tamago.backends.onnxruntime.channels_last import channels_last
from tamago.backends.onnxruntime.target import OnnxRuntime

HEAD = """<ir_version: 10, opset_import: ["": 21]>
g (float[1,8,9,9] x) => (float y)
<float s = {0.05}, uint8 z = {128}, float t = {0.07}, uint8 zero = {0}, float low = {0.0}, float high = {6.0}>
{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  w1 = DequantizeLinear <axis: int = 0> (k1, ks, kz)
  b1 = DequantizeLinear <axis: int = 0> (c1, bs, bz)
  w2 = DequantizeLinear <axis: int = 0> (k2, ks, kz)
"""

BLOCK = """
  a = Conv <pads: ints = [1,1,1,1]> (d, w1, b1)
  r = Relu(a)
  q1 = QuantizeLinear(r, t, zero)
  d1 = DequantizeLinear(q1, t, zero)
  e = Conv <pads: ints = [1,1,1,1]> (d1, w2)
  q2 = QuantizeLinear(e, s, z)
  d2 = DequantizeLinear(q2, s, z)
  m = Add(d2, d)
  q3 = QuantizeLinear(m, s, z)
  p = Pad(q3, sides, z)
  f = Slice(p, starts, ends, axes)
  d3 = DequantizeLinear(f, s, z)
  g = Conv <strides: ints = [2,2]> (d3, w1, b1)
  q4 = QuantizeLinear(g, s, z)
  y = DequantizeLinear(q4, s, z)
}"""


def model(body: str, bias: float = 0.05) -> ir.Model:
    """With a bias in steps of so many of the weight's."""
    parsed = onnx.parser.parse_model(HEAD + body)
    generator = np.random.default_rng(0)
    arrays = {
        # As large as every processor adds the products of: kernels of either layout are others.
        "k1": generator.integers(-64, 65, (8, 8, 3, 3)).astype(np.int8),
        "k2": generator.integers(-64, 65, (8, 8, 3, 3)).astype(np.int8),
        "c1": generator.integers(-2000, 2000, 8).astype(np.int32),
        "ks": generator.uniform(0.0005, 0.001, 8).astype(np.float32),
        "kz": np.zeros(8, np.int8),
        "bz": np.zeros(8, np.int32),
        "sides": np.asarray([0, 0, 1, 0, 0, 0, 2, 1], np.int64),
        "starts": np.asarray([1, 0], np.int64),
        "ends": np.asarray([11, 10], np.int64),
        "axes": np.asarray([2, -1], np.int64),
    }
    arrays["bs"] = arrays["ks"] * np.float32(bias)
    parsed.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items() if n in body + HEAD)
    return ir.from_proto(parsed)


def both(before: ir.Model, after: ir.Model) -> None:
    target = OnnxRuntime(1)
    for seed in range(4):
        feeds = {"x": np.random.default_rng(seed).standard_normal((1, 8, 9, 9)).astype(np.float32) * 3}
        np.testing.assert_array_equal(target.lower(after)(feeds)[0], target.lower(before)(feeds)[0])


def test_a_residual_block_is_laid_out_once() -> None:
    before = model(BLOCK)

    after = channels_last(before)

    assert after is not None
    counts = Counter(n.op_type for n in after.graph)
    assert counts["QLinearConv"] == 3
    assert counts["QLinearAdd"] == 1
    assert counts["Transpose"] == 2
    assert counts["Conv"] == counts["Relu"] == counts["Add"] == 0
    assert after.opset_imports["com.microsoft"] == 1
    both(before, after)
    assert not any(n.op_type == "QLinearConv" for n in before.graph)


def test_a_bias_in_other_steps_than_the_products_is_left_alone() -> None:
    body = "\n  a = Conv (d, w1, b1)\n  q1 = QuantizeLinear(a, s, z)\n  y = DequantizeLinear(q1, s, z)\n}"

    assert channels_last(model(body, bias=0.04)) is None
    assert channels_last(model(body)) is not None


@pytest.mark.parametrize(
    ("clip", "converted"),
    [("c = Clip(a, low, high)\n  q1 = QuantizeLinear(c, t, zero)", False), ("q1 = QuantizeLinear(a, s, z)", True)],
)
def test_an_activation_stays_where_the_range_does_not_imply_it(clip: str, converted: bool) -> None:
    scale, zero = ("t", "zero") if "t, zero" in clip else ("s", "z")
    before = model(f"\n  a = Conv (d, w1, b1)\n  {clip}\n  y = DequantizeLinear(q1, {scale}, {zero})\n}}")

    after = channels_last(before)

    assert (after is not None) == converted
    if after is not None:
        both(before, after)


def test_a_program_without_integer_convolutions_has_no_other_layout() -> None:
    floats = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["":18]> g (float[1,2,4,4] x, float[2,2,1,1] w) => (float y) { y = Conv(x, w) }'
    )

    assert channels_last(ir.from_proto(floats)) is None
    assert not OnnxRuntime(1).layouts(ir.from_proto(floats))
    assert not OnnxRuntime(1, True).layouts(model(BLOCK))
