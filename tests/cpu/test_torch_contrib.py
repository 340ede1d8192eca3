"""Operators of ONNX Runtime's own domain: `torch_program` against the CPU provider, on random inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from tamago.compiler.torch_operators.dtypes import to_numpy, to_torch
from tamago.compiler.torch_program import torch_program

Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """One node.

    Attributes:
        inputs: by position; `None` is omitted.
        outputs: how many the node has.
        compared: how many of them are compared; the end of a key cache is not defined.
    """

    op: str
    inputs: list[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: int = 1
    compared: int | None = None
    domain: str = "com.microsoft"
    atol: float = 1e-5
    name: str = ""

    def model(self) -> onnx.ModelProto:
        names = ["" if x is None else f"x{index}" for index, x in enumerate(self.inputs)]
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, "node", domain=self.domain, **self.attributes)
        # weights are initializers, as in real files: some kernels insist
        values = [
            helper.make_tensor_value_info(f"x{index}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for index, x in enumerate(self.inputs)
            if x is not None and index == 0
        ]
        weights = [
            numpy_helper.from_array(x, f"x{index}") for index, x in enumerate(self.inputs) if x is not None and index
        ]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([node], "case", values, results, weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def codes(*shape: int, seed: int = 0, dtype: Any = np.uint8, low: int = 0, high: int = 256) -> Array:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


def rotary_tables(length: int, size: int) -> tuple[Array, Array]:
    angle = np.outer(np.arange(length), 1 / 10 ** np.arange(size)).astype(np.float32)
    return np.cos(angle), np.sin(angle)


def activations() -> list[Case]:
    x = floats(2, 3, 8)
    fused = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    image, kernel, bias = floats(1, 3, 6, 6), floats(4, 3, 3, 3), floats(4)
    return [
        Case("Gelu", [x]),
        Case("BiasGelu", [x, floats(8)]),
        Case("FastGelu", [x, floats(8)]),
        Case("FastGelu", [x], name="plain"),
        Case("QuickGelu", [x], {"alpha": 1.3}),
        Case("FusedConv", [image, kernel, bias], {**fused, "activation": "Relu"}, name="relu"),
        Case("FusedConv", [image, kernel, bias, floats(1, 4, 6, 6)], {**fused, "activation": "Relu"}, name="sum"),
        Case("FusedConv", [image, kernel, bias], {**fused, "activation": "Tanh"}, name="tanh"),
        *[
            Case("FusedConv", [image, kernel, bias], {**fused, "activation": kind, "activation_params": values}, name=kind)
            for kind, values in (("LeakyRelu", [0.3]), ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.3, 0.4]))
        ],
        Case("FusedGemm", [floats(2, 3), floats(3, 5), floats(5)], {"activation": "Relu", "alpha": 0.5}),
        Case("FusedGemm", [floats(2, 3), floats(3, 5)], {"activation": "LeakyRelu", "activation_alpha": 0.2}, name="leaky"),
        Case("FusedMatMul", [floats(2, 3, 4), floats(2, 5, 4)], {"transB": 1, "alpha": 0.3}),
        Case("FusedMatMul", [floats(2, 4, 3), floats(2, 4, 5)], {"transA": 1}, name="a"),
        Case("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}, name="batch a"),
        Case("FusedMatMul", [floats(2, 3, 4), floats(4, 2, 5)], {"transBatchB": 1}, name="batch b"),
        Case("FusedMatMul", [floats(3, 2, 4), floats(5, 2, 4)], {"transBatchA": 1, "transBatchB": 1, "transB": 1}, name="both"),
    ]


def normalizations() -> list[Case]:
    x, skip, scale, shift = floats(2, 3, 8), floats(2, 3, 8, seed=1), floats(8), floats(8, seed=1)
    ids, tables = codes(2, 5, dtype=np.int32, high=9), (floats(9, 8), floats(7, 8), floats(2, 8))
    return [
        Case("SimplifiedLayerNormalization", [x, scale], {"epsilon": 1e-3}, domain=""),
        Case("SkipLayerNormalization", [x, skip, scale, shift, floats(8, seed=2)], outputs=1),
        Case("SkipLayerNormalization", [x, skip, scale, shift], {"epsilon": 0.1}, name="no bias"),
        Case("SkipSimplifiedLayerNormalization", [x, skip, scale, shift]),
        Case("SkipSimplifiedLayerNormalization", [x, skip, scale], {"epsilon": 0.1}, name="no bias"),
        Case(
            "EmbedLayerNormalization",
            [ids, codes(2, 5, dtype=np.int32, high=2), *tables, scale, shift, codes(2, 5, dtype=np.int32, high=2)],
            outputs=2,
        ),
        Case("EmbedLayerNormalization", [ids, None, *tables[:2], None, scale, shift], outputs=2, name="no segments"),
    ]


def attentions() -> list[Case]:
    q, k, v = floats(2, 3, 8), floats(2, 5, 8, seed=1), floats(2, 5, 8, seed=2)
    heads, ids = {"num_heads": 2}, np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
    past = floats(2, 2, 4, 4), floats(2, 2, 4, 4, seed=1)
    weight, bias = floats(8, 24) / 3, floats(24)
    cos, sin = rotary_tables(16, 2)
    group = {"num_heads": 4, "kv_num_heads": 2}
    gq, gk, gv = floats(2, 3, 64), floats(2, 3, 32, seed=1), floats(2, 3, 32, seed=2)
    wide = rotary_tables(16, 8)
    prompt, total = np.array([2, 2], np.int32), np.array(3, np.int32)
    one = floats(2, 1, 64), floats(2, 1, 32, seed=1), floats(2, 1, 32, seed=2)
    caches = floats(2, 2, 6, 16), floats(2, 2, 6, 16, seed=1)
    step, longest = np.array([6, 3], np.int32), np.array(7, np.int32)
    positions = np.array([[3, 4, 5], [0, 1, 2]], np.int64)
    return [
        Case("MultiHeadAttention", [q, k, v], heads),
        Case("MultiHeadAttention", [q, k, v, floats(24)], {**heads, "scale": 0.3}, name="bias"),
        Case("MultiHeadAttention", [q, k, v, None, ids], heads, name="mask"),
        Case("MultiHeadAttention", [q, k, v, None, np.array([3, 5], np.int32)], heads, name="lengths"),
        Case("MultiHeadAttention", [q, k, v, None, None, floats(2, 2, 3, 5)], heads, name="attention bias"),
        Case("MultiHeadAttention", [q, q, q], {**heads, "unidirectional": 1}, name="causal"),
        Case("MultiHeadAttention", [q, q, q, None, None, None, *past], {**heads, "unidirectional": 1}, 3, name="past"),
        Case("MultiHeadAttention", [q, *past], heads, name="cross heads"),
        Case("Attention", [q, weight, bias], heads, name="plain"),
        Case("Attention", [q, weight, bias], {**heads, "unidirectional": 1}, name="causal"),
        Case("Attention", [q, weight, bias, np.array([2, 3], np.int32)], heads, name="lengths"),
        Case("Attention", [q, weight, bias, np.array([2, 3, 1, 0], np.int32)], heads, name="left padding"),
        Case("Attention", [q, weight, bias, ids[:, 1:4].copy()], heads, name="mask"),
        Case("Attention", [q, weight, bias, codes(2, 3, 3, dtype=np.int32, high=2)], heads, name="mask of pairs"),
        Case("Attention", [q, weight, bias, None, floats(2, 2, 2, 4, 4)], {**heads, "unidirectional": 1}, 2, name="past"),
        Case("Attention", [q, floats(8, 28) / 3, floats(28)], {**heads, "qkv_hidden_sizes": [8, 8, 12]}, name="sizes"),
        Case("GroupQueryAttention", [gq, gk, gv, None, None, prompt, total], group, 3, name="prompt"),
        Case("GroupQueryAttention", [*one, *caches, step, longest], group, 3, compared=1, name="step"),
        Case("GroupQueryAttention", [*one, *caches, step, longest], {**group, "local_window_size": 3}, 3, compared=1, name="window"),
        Case("GroupQueryAttention", [*one, *caches, step, longest], {**group, "softcap": 2.0, "scale": 0.7}, 3, compared=1, name="cap"),
        Case("GroupQueryAttention", [*one, *caches, step, longest], {**group, "smooth_softmax": 1}, 3, compared=1, name="smooth"),
        Case(
            "GroupQueryAttention", [gq, gk, gv, None, None, prompt, total, *wide], {**group, "do_rotary": 1}, 3, name="rotary"
        ),
        Case(
            "GroupQueryAttention",
            [*one, *caches, step, longest, *wide],
            {**group, "do_rotary": 1, "rotary_interleaved": 1},
            3,
            compared=1,
            name="rotary step",
        ),
        Case("GroupQueryAttention", [floats(2, 3, 128), None, None, None, None, prompt, total], group, 3, name="packed"),
        Case("RotaryEmbedding", [floats(2, 3, 8), positions, cos, sin]),
        Case("RotaryEmbedding", [floats(2, 3, 8), np.array([5], np.int64), cos, sin], {"interleaved": 1}, name="offset"),
        Case("RotaryEmbedding", [floats(2, 2, 3, 4), positions, cos, sin], name="heads"),
        Case(
            "RotaryEmbedding",
            [floats(2, 3, 16), positions, cos, sin],
            {"num_heads": 2, "rotary_embedding_dim": 4},
            name="partial",
        ),
    ]


def quantized() -> list[Case]:
    x, y = codes(2, 4, 5, 5), codes(2, 4, 5, 5, seed=1)
    x_scale, y_scale, x_zero, y_zero = scalar(0.02), scalar(0.05), scalar(120, np.uint8), scalar(7, np.uint8)
    unary = [x, x_scale, x_zero, y_scale, y_zero]
    pair = [x, x_scale, x_zero, y, scalar(0.03), scalar(99, np.uint8), y_scale, y_zero]
    a, b = codes(3, 8), codes(8, 6, dtype=np.int8, low=-128, high=128)
    column, zeros = np.abs(floats(6)) / 50 + 0.01, codes(6, dtype=np.int8, low=-9, high=9)
    gemm = [a, x_scale, x_zero, b, column, np.zeros(6, np.int8), codes(6, dtype=np.int32, high=500)]
    packed = codes(6, 2, 8)
    half = {"K": 32, "N": 6, "bits": 4, "block_size": 16}
    return [
        Case("QLinearAdd", pair, atol=1),
        Case("QLinearMul", pair, atol=1),
        Case("QLinearSigmoid", [x, x_scale, x_zero, scalar(1 / 256), scalar(0, np.uint8)], atol=1),
        Case("QLinearLeakyRelu", unary, {"alpha": 0.1}, atol=1),
        Case("QLinearSoftmax", [x, x_scale, x_zero, scalar(1 / 256), scalar(0, np.uint8)], {"opset": 13}, atol=1),
        Case("QLinearGlobalAveragePool", unary, atol=1),
        Case("QLinearAveragePool", unary, {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}, atol=1),
        Case("QLinearConcat", [y_scale, y_zero, x, x_scale, x_zero, y, y_scale, y_zero], {"axis": 1}, atol=1),
        Case("QLinearWhere", [x > 99, x, x_scale, x_zero, y, y_scale, y_zero, scalar(0.06), scalar(50, np.uint8)], atol=1),
        Case("QGemm", [*gemm, y_scale, y_zero], {"alpha": 1.0}, atol=1),
        Case("QGemm", gemm, atol=1e-4, name="float"),
        Case("MatMulIntegerToFloat", [a, b, x_scale, column, x_zero, zeros, floats(6)], atol=1e-4),
        Case("DynamicQuantizeMatMul", [floats(3, 8), b, column, zeros, floats(6)], atol=1e-4),
        Case("MatMulNBits", [floats(3, 32), packed, floats(12)], half, atol=1e-4),
        Case("MatMulNBits", [floats(3, 32), packed, floats(12), codes(6)], half, atol=1e-4, name="zero points"),
        Case("MatMulNBits", [floats(3, 32), codes(6, 2, 16), floats(12)], {**half, "bits": 8}, atol=1e-3, name="8 bits"),
        Case("NhwcMaxPool", [codes(1, 6, 6, 3)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        Case("QuantizeLinear", [floats(3, 4), scalar(0.02), scalar(100, np.uint8)]),
        Case("DequantizeLinear", [codes(3, 4), scalar(0.02), scalar(100, np.uint8)]),
    ]


CASES = [*activations(), *normalizations(), *attentions(), *quantized()]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.op} {case.name}".strip() for case in CASES])
def test_matches_onnxruntime(case: Case) -> None:
    model = case.model()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    first = case.inputs[0]
    assert first is not None
    expected = session.run(None, {"x0": first})

    program = torch_program(ir.from_proto(model))
    with torch.no_grad():
        actual = [to_numpy(y) for y in program(to_torch(first))]

    for y, reference in list(zip(actual, expected, strict=True))[: case.compared]:
        assert isinstance(reference, np.ndarray)
        assert y.dtype == reference.dtype
        np.testing.assert_allclose(y.astype(np.float64), reference.astype(np.float64), rtol=1e-4, atol=case.atol)
