"""Operators of ONNX Runtime's own domain: `torch_program` against the CPU provider, on random inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.node_cases import Array, Node, floats


def contrib(
    op: str, inputs: Sequence[Array | None], attributes: dict[str, Any] | None = None, outputs: int = 1, **rest: Any
) -> Node:
    """A node of ONNX Runtime's domain; its weights are initializers, as some kernels insist."""
    rest.setdefault("domain", "com.microsoft")
    return Node(op, inputs, attributes or {}, outputs, fixed=range(1, len(inputs)), **rest)


def codes(*shape: int, seed: int = 0, dtype: Any = np.uint8, low: int = 0, high: int = 256) -> Array:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


def rotary_tables(length: int, size: int) -> tuple[Array, Array]:
    angle = np.outer(np.arange(length), 1 / 10 ** np.arange(size)).astype(np.float32)
    return np.cos(angle), np.sin(angle)


def activations() -> list[Node]:
    x = floats(2, 3, 8)
    fused = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    image, kernel, bias = floats(1, 3, 6, 6), floats(4, 3, 3, 3), floats(4)
    return [
        contrib("Gelu", [x]),
        contrib("BiasGelu", [x, floats(8)]),
        contrib("FastGelu", [x, floats(8)]),
        contrib("FastGelu", [x], name="plain"),
        contrib("QuickGelu", [x], {"alpha": 1.3}),
        contrib("FusedConv", [image, kernel, bias], {**fused, "activation": "Relu"}, name="relu"),
        contrib("FusedConv", [image, kernel, bias, floats(1, 4, 6, 6)], {**fused, "activation": "Relu"}, name="sum"),
        contrib("FusedConv", [image, kernel, bias], {**fused, "activation": "Tanh"}, name="tanh"),
        *[
            contrib(
                "FusedConv",
                [image, kernel, bias],
                {**fused, "activation": kind, "activation_params": values},
                name=kind,
            )
            for kind, values in (("LeakyRelu", [0.3]), ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.3, 0.4]))
        ],
        contrib("FusedGemm", [floats(2, 3), floats(3, 5), floats(5)], {"activation": "Relu", "alpha": 0.5}),
        contrib(
            "FusedGemm",
            [floats(2, 3), floats(3, 5)],
            {"activation": "LeakyRelu", "activation_alpha": 0.2},
            name="leaky",
        ),
        contrib("FusedMatMul", [floats(2, 3, 4), floats(2, 5, 4)], {"transB": 1, "alpha": 0.3}),
        contrib("FusedMatMul", [floats(2, 4, 3), floats(2, 4, 5)], {"transA": 1}, name="a"),
        contrib("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}, name="batch a"),
        contrib("FusedMatMul", [floats(2, 3, 4), floats(4, 2, 5)], {"transBatchB": 1}, name="batch b"),
        contrib(
            "FusedMatMul",
            [floats(3, 2, 4), floats(5, 2, 4)],
            {"transBatchA": 1, "transBatchB": 1, "transB": 1},
            name="both",
        ),
    ]


def normalizations() -> list[Node]:
    x, skip, scale, shift = floats(2, 3, 8), floats(2, 3, 8, seed=1), floats(8), floats(8, seed=1)
    ids, tables = codes(2, 5, dtype=np.int32, high=9), (floats(9, 8), floats(7, 8), floats(2, 8))
    return [
        contrib("SimplifiedLayerNormalization", [x, scale], {"epsilon": 1e-3}, domain=""),
        contrib("SkipLayerNormalization", [x, skip, scale, shift, floats(8, seed=2)], outputs=1),
        contrib("SkipLayerNormalization", [x, skip, scale, shift], {"epsilon": 0.1}, name="no bias"),
        contrib("SkipSimplifiedLayerNormalization", [x, skip, scale, shift]),
        contrib("SkipSimplifiedLayerNormalization", [x, skip, scale], {"epsilon": 0.1}, name="no bias"),
        contrib(
            "EmbedLayerNormalization",
            [ids, codes(2, 5, dtype=np.int32, high=2), *tables, scale, shift, codes(2, 5, dtype=np.int32, high=2)],
            outputs=2,
        ),
        contrib("EmbedLayerNormalization", [ids, None, *tables[:2], None, scale, shift], outputs=2, name="no segments"),
    ]


def attentions() -> list[Node]:
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
        contrib("MultiHeadAttention", [q, k, v], heads),
        contrib("MultiHeadAttention", [q, k, v, floats(24)], {**heads, "scale": 0.3}, name="bias"),
        contrib("MultiHeadAttention", [q, k, v, None, ids], heads, name="mask"),
        contrib("MultiHeadAttention", [q, k, v, None, np.array([3, 5], np.int32)], heads, name="lengths"),
        contrib("MultiHeadAttention", [q, k, v, None, None, floats(2, 2, 3, 5)], heads, name="attention bias"),
        contrib("MultiHeadAttention", [q, q, q], {**heads, "unidirectional": 1}, name="causal"),
        contrib(
            "MultiHeadAttention", [q, q, q, None, None, None, *past], {**heads, "unidirectional": 1}, 3, name="past"
        ),
        contrib("MultiHeadAttention", [q, *past], heads, name="cross heads"),
        contrib("Attention", [q, weight, bias], heads, name="plain"),
        contrib("Attention", [q, weight, bias], {**heads, "unidirectional": 1}, name="causal"),
        contrib("Attention", [q, weight, bias, np.array([2, 3], np.int32)], heads, name="lengths"),
        contrib("Attention", [q, weight, bias, np.array([2, 3, 1, 0], np.int32)], heads, name="left padding"),
        contrib("Attention", [q, weight, bias, ids[:, 1:4].copy()], heads, name="mask"),
        contrib("Attention", [q, weight, bias, codes(2, 3, 3, dtype=np.int32, high=2)], heads, name="mask of pairs"),
        contrib(
            "Attention", [q, weight, bias, None, floats(2, 2, 2, 4, 4)], {**heads, "unidirectional": 1}, 2, name="past"
        ),
        contrib(
            "Attention", [q, floats(8, 28) / 3, floats(28)], {**heads, "qkv_hidden_sizes": [8, 8, 12]}, name="sizes"
        ),
        contrib("GroupQueryAttention", [gq, gk, gv, None, None, prompt, total], group, 3, name="prompt"),
        contrib("GroupQueryAttention", [*one, *caches, step, longest], group, 3, compared=1, name="step"),
        contrib(
            "GroupQueryAttention",
            [*one, *caches, step, longest],
            {**group, "local_window_size": 3},
            3,
            compared=1,
            name="window",
        ),
        contrib(
            "GroupQueryAttention",
            [*one, *caches, step, longest],
            {**group, "softcap": 2.0, "scale": 0.7},
            3,
            compared=1,
            name="cap",
        ),
        contrib(
            "GroupQueryAttention",
            [*one, *caches, step, longest],
            {**group, "smooth_softmax": 1},
            3,
            compared=1,
            name="smooth",
        ),
        contrib(
            "GroupQueryAttention",
            [gq, gk, gv, None, None, prompt, total, *wide],
            {**group, "do_rotary": 1},
            3,
            name="rotary",
        ),
        contrib(
            "GroupQueryAttention",
            [*one, *caches, step, longest, *wide],
            {**group, "do_rotary": 1, "rotary_interleaved": 1},
            3,
            compared=1,
            name="rotary step",
        ),
        contrib(
            "GroupQueryAttention", [floats(2, 3, 128), None, None, None, None, prompt, total], group, 3, name="packed"
        ),
        contrib("RotaryEmbedding", [floats(2, 3, 8), positions, cos, sin]),
        contrib(
            "RotaryEmbedding", [floats(2, 3, 8), np.array([5], np.int64), cos, sin], {"interleaved": 1}, name="offset"
        ),
        contrib("RotaryEmbedding", [floats(2, 2, 3, 4), positions, cos, sin], name="heads"),
        contrib(
            "RotaryEmbedding",
            [floats(2, 3, 16), positions, cos, sin],
            {"num_heads": 2, "rotary_embedding_dim": 4},
            name="partial",
        ),
    ]


def quantized() -> list[Node]:
    x, y = codes(2, 4, 5, 5), codes(2, 4, 5, 5, seed=1)
    x_scale, y_scale, x_zero, y_zero = scalar(0.02), scalar(0.05), scalar(120, np.uint8), scalar(7, np.uint8)
    unary = [x, x_scale, x_zero, y_scale, y_zero]
    pair = [x, x_scale, x_zero, y, scalar(0.03), scalar(99, np.uint8), y_scale, y_zero]
    # No larger than any processor adds products of in full: without VNNI two of them in 16 bits.
    a, b = codes(3, 8), codes(8, 6, dtype=np.int8, low=-64, high=65)
    column, zeros = np.abs(floats(6)) / 50 + 0.01, codes(6, dtype=np.int8, low=-9, high=9)
    gemm = [a, x_scale, x_zero, b, column, np.zeros(6, np.int8), codes(6, dtype=np.int32, high=500)]
    packed = codes(6, 2, 8)
    half = {"K": 32, "N": 6, "bits": 4, "block_size": 16}
    rows, table = np.array([[5, 0, 2], [1, 1, 4]]), {"gather_axis": 0, "quantize_axis": 1, "bits": 4, "block_size": 16}
    return [
        contrib("QLinearAdd", pair, atol=1),
        contrib("QLinearMul", pair, atol=1),
        contrib("QLinearSigmoid", [x, x_scale, x_zero, scalar(1 / 256), scalar(0, np.uint8)], atol=1),
        contrib("QLinearLeakyRelu", unary, {"alpha": 0.1}, atol=1),
        contrib("QLinearSoftmax", [x, x_scale, x_zero, scalar(1 / 256), scalar(0, np.uint8)], {"opset": 13}, atol=1),
        contrib("QLinearGlobalAveragePool", unary, atol=1),
        contrib("QLinearAveragePool", unary, {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}, atol=1),
        contrib("QLinearConcat", [y_scale, y_zero, x, x_scale, x_zero, y, y_scale, y_zero], {"axis": 1}, atol=1),
        contrib(
            "QLinearWhere", [x > 99, x, x_scale, x_zero, y, y_scale, y_zero, scalar(0.06), scalar(50, np.uint8)], atol=1
        ),
        contrib("QGemm", [*gemm, y_scale, y_zero], {"alpha": 1.0}, atol=1),
        contrib("QGemm", gemm, atol=1e-4, name="float"),
        contrib("MatMulIntegerToFloat", [a, b, x_scale, column, x_zero, zeros, floats(6)], atol=1e-4),
        contrib("DynamicQuantizeMatMul", [floats(3, 8), b, column, zeros, floats(6)], atol=1e-4),
        contrib("MatMulNBits", [floats(3, 32), packed, floats(12)], half, atol=1e-4),
        contrib("MatMulNBits", [floats(3, 32), packed, floats(12), codes(6)], half, atol=1e-4, name="zero points"),
        contrib(
            "MatMulNBits", [floats(3, 32), codes(6, 2, 16), floats(12)], {**half, "bits": 8}, atol=1e-3, name="8 bits"
        ),
        contrib("GatherBlockQuantized", [codes(6, 16), rows, floats(6, 2), codes(6, 1)], table),
        contrib("GatherBlockQuantized", [codes(6, 16), rows, floats(6, 2)], table, name="no zero points"),
        contrib("GatherBlockQuantized", [codes(6, 32), rows, floats(6, 2)], {**table, "bits": 8}, name="8 bits"),
        contrib("NhwcMaxPool", [codes(1, 6, 6, 3)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        contrib("QuantizeLinear", [floats(3, 4), scalar(0.02), scalar(100, np.uint8)]),
        contrib("DequantizeLinear", [codes(3, 4), scalar(0.02), scalar(100, np.uint8)]),
    ]


CASES = [*activations(), *normalizations(), *attentions(), *quantized()]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.op} {case.name}".strip() for case in CASES])
def test_matches_onnxruntime(case: Node) -> None:
    case.check()
