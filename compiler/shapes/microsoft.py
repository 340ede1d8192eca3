"""ONNX Runtime's own operators."""

from __future__ import annotations

from onnx import TensorProto

from ..facts import Shape
from .call import Call, Known, Rule, broadcast
from .convolution import conv_shape
from .products import product_shape

_LIKE_FIRST = (
    "BiasGelu BiasSoftmax FastGelu Gelu GroupNorm QLinearLeakyRelu QLinearSigmoid QLinearSoftmax QuickGelu "
    "RotaryEmbedding SkipGroupNorm"
)


def _first(call: Call) -> list[Known]:
    return [(call.dtype(), call.shape())]


def _normalised(call: Call) -> list[Known]:
    """SimplifiedLayerNormalization: output, inverse deviation."""
    shape = call.shape()
    reduced = None if shape is None else (*shape[:-1], 1)
    return [(call.dtype(), shape), (TensorProto.FLOAT, reduced)]


def _skip_normalised(call: Call) -> list[Known]:
    """Skip(Simplified)LayerNormalization: output, mean, inverse deviation, the sum that was normalised."""
    shape = call.shape()
    reduced = (TensorProto.FLOAT, None if shape is None else (*shape[:-1], 1))
    return [(call.dtype(), shape), reduced, reduced, (call.dtype(), shape)]


def _fused_matmul(call: Call) -> list[Known]:
    a = _turned(call.shape(0), bool(call.attributes.get("transA", 0)), bool(call.attributes.get("transBatchA", 0)))
    b = _turned(call.shape(1), bool(call.attributes.get("transB", 0)), bool(call.attributes.get("transBatchB", 0)))
    return [(call.dtype(), product_shape(a, b))]


def _turned(shape: Shape | None, transposed: bool, batch_moved: bool) -> Shape | None:
    """`transBatch` brings the first axis to the second-last place, trans then exchanges the last two."""
    if shape is None or len(shape) < 2:
        return shape
    if batch_moved:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if transposed else shape


def _fused_conv(call: Call) -> list[Known]:
    return [(call.dtype(), conv_shape(call, call.shape(0), call.shape(1)))]


def _float_product(call: Call) -> list[Known]:
    return [(TensorProto.FLOAT, product_shape(call.shape(0), call.shape(1)))]


def _matmul_bits(call: Call) -> list[Known]:
    shape = call.shape()
    return [(call.dtype(), None if shape is None else (*shape[:-1], int(call.attributes["N"])))]


def _quantised_binary(call: Call) -> list[Known]:
    return [(call.dtype(), broadcast([call.shape(0), call.shape(3)]))]


_NAMED: dict[str, Rule] = {
    **dict.fromkeys(_LIKE_FIRST.split(), _first),
    "DynamicQuantizeMatMul": _float_product,
    "FusedConv": _fused_conv,
    "FusedMatMul": _fused_matmul,
    "MatMulIntegerToFloat": _float_product,
    "MatMulNBits": _matmul_bits,
    "QLinearAdd": _quantised_binary,
    "QLinearMul": _quantised_binary,
    "SkipLayerNormalization": _skip_normalised,
    "SkipSimplifiedLayerNormalization": _skip_normalised,
}

RULES: dict[str, Rule] = {
    **{f"com.microsoft::{name}": rule for name, rule in _NAMED.items()},
    "SimplifiedLayerNormalization": _normalised,
}
