"""A weight as a product of two: when that saves, and how it is written."""

from __future__ import annotations

import numpy as np

from ...compiler.approximate.forms import biased
from ...compiler.approximate.method import X
from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Expression, op
from ..quantization.symmetric import columns_int8

MULTIPLE = 8  # of a rank: what vector units take at once


def break_even(shape: tuple[int, ...]) -> float:
    """The rank at which two factors hold as much as the weight: in·out / (in + out)."""
    width, outputs = shape
    return width * outputs / (width + outputs)


def whole(rank: float) -> int:
    """The rank, rounded down to a multiple that kernels like."""
    return int(rank // MULTIPLE) * MULTIPLE


def two_products(place: Place, left: Array, right: Array) -> Expression:
    """(x·A)·B + b."""
    return biased(place, op.MatMul(op.MatMul(X, _float32(left)), _float32(right)))


def two_int8_products(place: Place, left: Array, right: Array) -> Expression:
    """(x·A)·B + b with A, B in int8, scales for each column; x and x·A in int8, a scale for the tensor."""
    product = op("com.microsoft::DynamicQuantizeMatMul")
    inner = product(X, *columns_int8(_float32(left)))
    codes, scale = columns_int8(_float32(right))
    return product(inner, codes, scale, None, place.bias)


def _float32(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)
