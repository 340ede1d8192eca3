"""ONNX Runtime fuses at the target opset what it fuses at 18: the reason why the target is what it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from tamago.compiler.opset import TARGET

GENERATOR = np.random.default_rng(0)


def _random(*shape: int) -> np.ndarray[Any, Any]:
    return GENERATOR.standard_normal(shape).astype(np.float32)


IMAGE, ROWS = "float[1,16,20,20] x", "float[2,10,64] x"
CONSTANTS: dict[str, Any] = {
    "w": _random(16, 16, 3, 3),
    "cb": _random(16),
    "s": _random(16),
    "o": _random(16),
    "mu": _random(16),
    "va": np.abs(_random(16)),
    "lo": np.float32(0),
    "hi": np.float32(6),
    "m": _random(64, 64),
    "b": _random(64),
    "g": _random(64),
    "last": np.asarray([-1]),
    "two": np.float32(2),
    "eps": np.float32(1e-5),
    "root": np.float32(2**0.5),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "qs": np.float32(0.05),
    "qz": np.uint8(128),
    "ws": np.float32(0.01),
    "wz": np.int8(0),
    "wq": GENERATOR.integers(-100, 100, (16, 16, 3, 3)).astype(np.int8),
    "mq": GENERATOR.integers(-100, 100, (64, 64)).astype(np.int8),
    "p": np.asarray([0, 0, 1, 1, 0, 0, 1, 1]),
    "i0": np.asarray(0),
    "i1": np.asarray(1),
    "ax": np.asarray([0]),
    "rest": np.asarray([4, 16]),
}
CONV = "c = Conv <pads = [1, 1, 1, 1]> (x, w, cb) "
QUANTISED = "q = QuantizeLinear (x, qs, qz) d = DequantizeLinear (q, qs, qz) "
REQUANTISED = "r = QuantizeLinear (t, qs, qz) y = DequantizeLinear (r, qs, qz)"

# inputs, nodes, and the operator that a fusion makes disappear
PATTERNS: dict[str, tuple[str, str, str]] = {
    "Conv BatchNormalization": (IMAGE, CONV + "y = BatchNormalization (c, s, o, mu, va)", "BatchNormalization"),
    **{f"Conv {op}": (IMAGE, CONV + f"y = {op} (c)", op) for op in ("Relu", "Sigmoid", "Tanh", "HardSigmoid")},
    "Conv Clip": (IMAGE, CONV + "y = Clip (c, lo, hi)", "Clip"),
    "Pad Conv": (IMAGE, "a = Pad (x, p) y = Conv (a, w, cb)", "Pad"),
    "Transpose pair": (
        IMAGE,
        "a = Transpose <perm = [0, 2, 3, 1]> (x) r = Round (a) e = Elu (r) y = Transpose <perm = [0, 3, 1, 2]> (e)",
        "Transpose",
    ),
    "MatMul Add": (ROWS, "a = MatMul (x, m) y = Add (a, b)", "MatMul"),
    "Gelu": (ROWS, "d = Div (x, root) e = Erf (d) f = Add (e, one) h = Mul (x, f) y = Mul (h, half)", "Erf"),
    "LayerNormalization": (
        ROWS,
        "u = ReduceMean (x, last) d = Sub (x, u) q = Pow (d, two) v = ReduceMean (q, last) f = Add (v, eps) "
        "r = Sqrt (f) n = Div (d, r) k = Mul (n, g) y = Add (k, b)",
        "ReduceMean",
    ),
    "skip LayerNormalization": (ROWS + ", float[2,10,64] z", "a = Add (x, z) y = LayerNormalization (a, g, b)", "Add"),
    "Reshape of computed shape": (
        "float[N,M,64] x",
        "d = Shape (x) e = Gather (d, i0) f = Gather (d, i1) h = Unsqueeze (e, ax) i = Unsqueeze (f, ax) "
        "t = Concat <axis = 0> (h, i, rest) y = Reshape (x, t)",
        "Concat",
    ),
    "Transpose MatMul": (
        ROWS + ", float[2,10,64] z",
        "t = Transpose <perm = [0, 2, 1]> (z) y = MatMul (x, t)",
        "Transpose",
    ),
    "quantised Conv": (IMAGE, QUANTISED + "f = DequantizeLinear (wq, ws, wz) t = Conv (d, f) " + REQUANTISED, "Conv"),
    "quantised MatMul": (
        ROWS,
        QUANTISED + "f = DequantizeLinear (mq, ws, wz) t = MatMul (d, f) " + REQUANTISED,
        "MatMul",
    ),
}


def _fused(inputs: str, nodes: str, opset: int, folder: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime runs."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]> fusion ({inputs}) => (float y) {{ {nodes} }}'
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), name) for name, v in CONSTANTS.items() if name in used
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "fused.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_fusion_is_lost_at_the_target(name: str, tmp_path: Path) -> None:
    inputs, nodes, gone = PATTERNS[name]

    before = _fused(inputs, nodes, 18, tmp_path)

    assert _fused(inputs, nodes, TARGET, tmp_path) == before
    assert gone not in before
