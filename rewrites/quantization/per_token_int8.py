"""Dynamic int8 with one scale for each row of the activations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.rule import op
from .symmetric import factor_int8

LEAST = 1e-28  # of a row's largest: a row of zeros has a step as well
ZERO = 128  # of unsigned codes: signed activations have no fast kernel in ONNX Runtime


@method(kinds=("linear",), paper="Yao et al., ZeroQuant, NeurIPS 2022, arXiv:2206.01861 (token-wise quantization)")
def per_token_int8(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ diag(s) (Q(diag(1/s)·x)·Q(W) diag(s_W)) + b, with s = max|row| / 127 for each row of x.

    An outlier costs only its own row. QuantizeLinear takes a vector of scales along an axis, so rows become axis 0.
    """
    width, outputs = place.shape
    codes, scale = factor_int8(place.weight, wide=place.wide)
    last = np.asarray([-1], np.int64)
    rows = op.Reshape(X, np.asarray([-1, width], np.int64))
    # max|x| = max(max x, −min x): |x| would be written out, which takes longer where it leaves the cache.
    high, low = op.ReduceMax(rows, last, keepdims=0), op.ReduceMin(rows, last, keepdims=0)
    largest = op.Max(high, op.Neg(low), np.float32(LEAST))
    step = op.Mul(largest, np.float32(1 / 127))
    zeros = op.Expand(np.asarray(ZERO, np.uint8), op.Shape(step))
    quantized = op.QuantizeLinear(rows, step, zeros, axis=0)
    product = op("com.microsoft::MatMulIntegerToFloat")(
        quantized, codes, np.asarray(1, np.float32), scale, np.asarray(ZERO, np.uint8)
    )
    result = op.Mul(product, op.Unsqueeze(step, last))
    if place.bias is not None:
        result = op.Add(result, place.bias)
    shape = op.Concat(op.Shape(X, start=0, end=-1), np.asarray([outputs], np.int64), axis=0)
    yield Form("one scale for each row", op.Reshape(result, shape))
