"""Files that other tools quantised: what they keep in codes stays in codes, and computes the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

import tamago
from tamago.compiler.facts import Array
from tamago.compiler.opset import to_target

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 8)).astype(np.float32)
CODES = RANDOM.integers(-127, 128, (8, 8)).astype(np.int8)
NUMBERS = {"s": 0.05, "t": 0.01, "u": 0.1}
STEP = 1.1 * NUMBERS["u"]  # kernels of codes may round a tie the other way


def model(body: str) -> onnx.ModelProto:
    """A graph of `x`, codes `w`, scales s, t, u and zero points z (unsigned) and o (signed), with the output `y`."""
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 13]> g (float[n,8] x) => (float[n,8] y) {{ {body} }}'
    )
    constants = {name: np.asarray(number, np.float32) for name, number in NUMBERS.items()}
    constants |= {"w": CODES, "z": np.asarray(128, np.uint8), "o": np.asarray(0, np.int8)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return proto


def compiled(body: str) -> tamago.CompiledModel:
    return tamago.compile(model(body), {"x": X}, measure=False, threads=1, store=":memory:")


def operators(graph: ir.Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph)


def wanted(body: str) -> Array:
    """What the file says as it is written: the runtime's own optimisation computes with coarser activations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(ort.InferenceSession(model(body).SerializeToString(), options).run(None, {"x": X})[0])


IN, OUT = (
    "a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z)",
    "e = QuantizeLinear (d, u, z) y = DequantizeLinear (e, u, z)",
)
PRODUCT = f"{IN} c = DequantizeLinear (w, t, o) d = MatMul (b, c) {OUT}"
TURNED = f"{IN} v = DequantizeLinear (w, t, o) c = Transpose <perm = [1, 0]> (v) d = MatMul (b, c) {OUT}"


@pytest.mark.parametrize("body", [PRODUCT, TURNED])
def test_weights_in_codes_beside_codes_stay_so(body: str) -> None:
    """Written out in single precision they were four times as large, and the runtime quantised them anew."""
    result = compiled(body)

    assert operators(result.graph.graph)["DequantizeLinear"] == 3
    assert any(v.dtype == ir.DataType.INT8 and v.shape == (8, 8) for v in result.graph.graph.initializers.values())
    assert np.abs(result(X)[0] - wanted(body)).max() < STEP


def test_a_table_of_codes_whose_rows_become_codes_stays_so() -> None:
    body = f"k = Constant <value = int64[2] {{0, 3}}> () c = DequantizeLinear (w, t, o) {IN} m = Cast <to = 7> (x) "
    body += f"i = ReduceMax <axes = [1], keepdims = 0> (m) j = Sub (i, i) d = Gather (c, j) {OUT}"
    result = compiled(body)

    assert operators(result.graph.graph)["DequantizeLinear"] == 2
    assert np.abs(result(X)[0] - wanted(body)).max() < STEP


def test_weights_in_codes_for_arithmetic_in_single_precision_are_written_out() -> None:
    """No kernel takes their codes, so they would be made wide again at every run."""
    body = "c = DequantizeLinear (w, t, o) y = MatMul (x, c)"
    result = compiled(body)

    assert operators(result.graph.graph) == {"MatMul": 1}
    assert np.allclose(result(X)[0], wanted(body), rtol=1e-5)


def test_signed_codes_that_are_reshaped_load_after_what_is_done_to_them() -> None:
    """From opset 21 on ONNX Runtime puts a QuantizeLinear behind the Reshape that contradicts its own zero point."""
    start = "a = QuantizeLinear (x, s, o) b = DequantizeLinear (a, s, o) f = Transpose <perm = [1, 0]> (b)"
    shape = "k = Shape (x) r = Reshape (f, k) g = Add (r, r) h = Add (g, u) y = Neg (h)"
    result = compiled(f"{start} {shape}")

    assert result.report.verdict == "not timed"
    assert np.allclose(result(X)[0], wanted(f"{start} {shape}"), rtol=1e-5)


@pytest.mark.parametrize("zero", ["z", "o"])
def test_only_signed_activations_keep_a_file_below_that_opset(zero: str) -> None:
    """Weights in codes do not, nor do unsigned activations: later operators (Attention, RMSNormalization) stay open."""
    body = f"a = QuantizeLinear (x, s, {zero}) b = DequantizeLinear (a, s, {zero}) "
    raised = ir.serde.deserialize_model(model(f"{body} c = DequantizeLinear (w, t, o) y = MatMul (b, c)"))
    to_target(raised)

    assert (raised.opset_imports[""] > 20) == (zero == "z")
