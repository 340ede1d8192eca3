"""Symmetric 8-bit weights with one scale for each output."""

from __future__ import annotations

import numpy as np

from ...compiler.code_pairs import adds_in_32_bits, as_factor, together
from ...compiler.facts import Array

LARGEST = 127  # code


def columns_int8(weight: Array) -> tuple[Array, Array]:
    """W ≈ Q · diag(s) with Q in [−127, 127], s = max|column| / 127.

    Args:
        weight: [in, out].

    Returns:
        Q int8 [in, out] and s float32 [out].
    """
    return _coded(weight, np.abs(weight).max(axis=0))


def rows_int8(table: Array) -> tuple[Array, Array]:
    """The same by rows: Q int8 [rows, width] and s float32 [rows, 1]."""
    codes, scale = columns_int8(np.ascontiguousarray(table.T))
    return np.ascontiguousarray(codes.T), scale[:, None]


def factor_int8(weight: Array, *, wide: bool) -> tuple[Array, Array]:
    """The same for what unsigned codes are multiplied with: u·Q, u in [0, 255].

    Without wide sums neighbours of one sign add up to 128 at most (`code_pairs` says why). Rounding adds a half to
    each, hence s = max(|Wᵢ|, |W₂ᵢ + W₂ᵢ₊₁| of one sign) / 127. For weights of a normal distribution that is 1.3 times
    the scale and 1.8 times the squared error; seven bits would be 4 times.

    Args:
        weight: [in, out].
        wide: sums are known to have 32 bits, wherever the program will run: any codes will do.
    """
    if wide:
        return columns_int8(weight)
    return _coded(weight, np.maximum(np.abs(weight).max(axis=0), together(weight).max(axis=0)))


def kernel_int8(weight: Array, groups: int, *, wide: bool) -> tuple[Array, Array]:
    """The same for a convolution's weight: Q int8 as it lies and s float32 [out].

    Args:
        weight: [out, in/groups, …].
        groups: of the convolution.
        wide: as for `factor_int8`.
    """
    outputs, inputs, *taps = weight.shape
    codes, scale = factor_int8(as_factor(weight), wide=wide or adds_in_32_bits(inputs, outputs, groups))
    return np.ascontiguousarray(np.moveaxis(codes.reshape(*taps, inputs, outputs), (-1, -2), (0, 1))), scale


def _coded(weight: Array, largest: Array) -> tuple[Array, Array]:
    scale = np.divide(largest, float(LARGEST))
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.clip(np.round(np.divide(weight, scale)), -LARGEST, LARGEST).astype(np.int8), scale
