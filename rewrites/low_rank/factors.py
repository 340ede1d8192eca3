"""A weight as a product of two: when that saves, how it is written, and what of the error a bias takes up."""

from __future__ import annotations

from math import prod

import numpy as np

from ...compiler.approximate.method import X
from ...compiler.facts import Array
from ...compiler.rule import Expression, Skip, op
from ..quantization.dynamic_int8 import dynamic_product

FRACTIONS = (0.75, 0.5, 0.25)  # of the break-even rank
MULTIPLE = 8  # of a rank: what vector units take at once


def break_even(shape: tuple[int, ...]) -> float:
    """The rank at which two factors hold as much as the weight: in·out / (in + out)."""
    return prod(shape) / sum(shape)


def whole(rank: float) -> int:
    """The rank, rounded down to a multiple that kernels like."""
    return int(rank // MULTIPLE) * MULTIPLE


def ranks_below(most: float) -> list[int]:
    """The ranks that are tried of a weight, largest first.

    Raises:
        Skip: the break-even rank is too small for any.
    """
    ranks = [rank for rank in dict.fromkeys(whole(f * most) for f in FRACTIONS) if rank]
    if not ranks:
        raise Skip(f"two factors save nothing from rank {most:.0f} on, too few for any")
    return ranks


def two_products(left: Array, right: Array, bias: Array | None) -> Expression:
    """(x·A)·B + b."""
    product = op.MatMul(op.MatMul(X, float32(left)), float32(right))
    return product if bias is None else op.Add(product, bias)


def two_int8_products(left: Array, right: Array, bias: Array | None, *, wide: bool) -> Expression:
    """(x·A)·B + b with A, B in int8, scales for each column; x and x·A in int8, a scale for the tensor."""
    return dynamic_product(dynamic_product(X, float32(left), None, wide=wide), float32(right), bias, wide=wide)


def bias_with_mean(bias: Array | None, mean: Array, weight: Array, approximation: Array) -> Array:
    """The bias b + E[x]·(W − Ŵ): with it the approximation's error has mean zero."""
    shift = np.asarray(mean, np.float64) @ np.subtract(weight, approximation, dtype=np.float64)
    return float32(shift if bias is None else np.add(bias, shift))


def float32(array: Array) -> Array:
    """As the runtime takes it."""
    return np.ascontiguousarray(array, np.float32)
