"""Operators that work entry by entry, and those whose result looks like their first input."""

from __future__ import annotations

from onnx import TensorProto

from ..facts import Contradiction
from .call import Call, Known, Rule, broadcast

_BROADCASTING = "Add Sub Mul Div Pow Mod Max Min Mean Sum PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor"
_COMPARISONS = "Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor"
_TESTS = "IsNaN IsInf Not"
_LIKE_FIRST = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Hardmax Identity InstanceNormalization LRN LeakyRelu Log LogSoftmax LpNormalization "
    "MeanVarianceNormalization Mish Neg RMSNormalization Reciprocal Relu ReverseSequence RotaryEmbedding Round "
    "GroupNormalization ScatterElements ScatterND Scatter Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign "
    "Sqrt Swish Tan Tanh ThresholdedRelu Trilu"
)


def _first(call: Call) -> list[Known]:
    return [(call.dtype(), call.shape())]


def _broadcast(call: Call) -> list[Known]:
    dtype = call.dtype(0) if call.op in ("Pow", "PRelu") else _common_dtype(call, range(len(call.operands)))
    return [(dtype, broadcast(call.shape(i) for i in range(len(call.operands))))]


def _common_dtype(call: Call, indices: range) -> int | None:
    found = {call.dtype(i) for i in indices} - {None}
    if len(found) > 1:
        raise Contradiction(f"{call.op} of different element types")
    return found.pop() if found else None


def _compare(call: Call) -> list[Known]:
    return [(TensorProto.BOOL, broadcast(call.shape(i) for i in range(len(call.operands))))]


def _test(call: Call) -> list[Known]:
    return [(TensorProto.BOOL, call.shape())]


def _where(call: Call) -> list[Known]:
    return [(_common_dtype(call, range(1, 3)), broadcast(call.shape(i) for i in range(3)))]


def _cast(call: Call) -> list[Known]:
    return [(int(call.get("to")), call.shape())]


def _cast_like(call: Call) -> list[Known]:
    return [(call.dtype(1), call.shape())]


def _dropout(call: Call) -> list[Known]:
    mask = TensorProto.BOOL if call.version >= 10 else call.dtype()
    return [(call.dtype(), call.shape()), (mask, call.shape())]


def _layer_normalization(call: Call) -> list[Known]:
    """Mean and inverse deviation keep the normalised axes as ones."""
    shape = call.shape()
    if shape is None:
        return [(call.dtype(), None), (int(call.get("stash_type")), None), (int(call.get("stash_type")), None)]
    axis = int(call.get("axis")) % max(len(shape), 1)
    reduced = (*shape[:axis], *(1 for _ in shape[axis:]))
    stash = int(call.get("stash_type"))
    return [(call.dtype(), shape), (stash, reduced), (stash, reduced)]


def _batch_normalization(call: Call) -> list[Known]:
    statistics = (call.dtype(3), call.shape(3))
    return [(call.dtype(), call.shape()), statistics, (call.dtype(4), call.shape(4))]


def _quantize(call: Call) -> list[Known]:
    stated = call.attributes.get("output_dtype")
    dtype = stated or (call.dtype(2) if call.has(2) else TensorProto.UINT8)
    return [(dtype, call.shape())]


def _dequantize(call: Call) -> list[Known]:
    return [(call.attributes.get("output_dtype") or call.dtype(1), call.shape())]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_LIKE_FIRST.split(), _first),
    **dict.fromkeys(_BROADCASTING.split(), _broadcast),
    **dict.fromkeys(_COMPARISONS.split(), _compare),
    **dict.fromkeys(_TESTS.split(), _test),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "CastLike": _cast_like,
    "DequantizeLinear": _dequantize,
    "Dropout": _dropout,
    "LayerNormalization": _layer_normalization,
    "QuantizeLinear": _quantize,
    "Where": _where,
}
