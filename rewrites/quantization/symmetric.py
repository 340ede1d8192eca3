"""Symmetric 8-bit weights with one scale for each output."""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Array


def columns_int8(weight: Array) -> tuple[Array, Array]:
    """W ≈ Q · diag(s) with Q in [−127, 127], s = max|column| / 127.

    Args:
        weight: [in, out].

    Returns:
        Q int8 [in, out] and s float32 [out].
    """
    scale = np.abs(weight).max(axis=0) / 127.0
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.clip(np.round(np.divide(weight, scale)), -127, 127).astype(np.int8), scale


def rows_int8(table: Array) -> tuple[Array, Array]:
    """The same by rows: Q int8 [rows, width] and s float32 [rows, 1]."""
    codes, scale = columns_int8(np.ascontiguousarray(table.T))
    return np.ascontiguousarray(codes.T), scale[:, None]
