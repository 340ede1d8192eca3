"""Matrix products."""

from __future__ import annotations

from onnx import TensorProto

from ..facts import Contradiction, Shape
from .call import Call, Known, Rule, agree, broadcast


def product_shape(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape of a matrix product as `numpy.matmul` defines it.

    Raises:
        Contradiction: the operands do not fit.
    """
    if a is None or b is None:
        return None
    if not a or not b:
        raise Contradiction("a matrix product with a scalar")
    rows = a if len(a) > 1 else (1, *a)
    columns = b if len(b) > 1 else (*b, 1)
    agree(rows[-1], columns[-2], "the inner dimension of a matrix product")
    batch = broadcast([rows[:-2], columns[:-2]])
    if batch is None:
        return None
    return (*batch, *(rows[-2:-1] if len(a) > 1 else ()), *(columns[-1:] if len(b) > 1 else ()))


def _matmul(call: Call) -> list[Known]:
    a, b = call.dtype(0), call.dtype(1)
    if a is not None and b is not None and a != b:
        raise Contradiction("a matrix product of different element types")
    return [(a if a is not None else b, product_shape(call.shape(0), call.shape(1)))]


def _matmul_integer(call: Call) -> list[Known]:
    return [(TensorProto.INT32, product_shape(call.shape(0), call.shape(1)))]


def _gemm(call: Call) -> list[Known]:
    a, b = call.shape(0), call.shape(1)
    if a is None or b is None:
        return [(call.dtype(), (None, None))]
    if len(a) != 2 or len(b) != 2:
        raise Contradiction(f"Gemm of ranks {len(a)} and {len(b)}")
    rows, inner = (a[1], a[0]) if call.get("transA") else a
    other, columns = (b[1], b[0]) if call.get("transB") else b
    agree(inner, other, "the inner dimension of a Gemm")
    bias = call.shape(2)
    if bias is not None:
        broadcast([(rows, columns), bias])
    return [(call.dtype(), (rows, columns))]


RULES: dict[str, Rule] = {"Gemm": _gemm, "MatMul": _matmul, "MatMulInteger": _matmul_integer}
