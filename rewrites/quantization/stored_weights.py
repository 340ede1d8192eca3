"""Weights that are small in the file and full-sized when loaded: while the model runs, nothing is different."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.approximate.forms import applied
from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Expression, op
from .block_weights import round_blocks
from .double_quantization import scales_in_8_bits
from .symmetric import columns_int8, rows_int8

FLOAT = int(ir.DataType.FLOAT)
BLOCK = 32
FOUR_BITS = 21  # the opset that has them


@method(
    kinds=("linear", "convolution", "embedding", "weight"),
    paper="Han et al., Deep Compression, ICLR 2016, arXiv:1510.00149 (quantised storage)",
)
def stored_weights(place: Place, inputs: Inputs) -> Iterator[Form]:
    """W ≈ float(Q(W))·s, written out of constants only: the runtime folds it when it loads the file.

    The kernels, and so the latency, are those of the exact program; only the file is smaller, not what is resident.
    """
    rows = _rows(place)
    codes, scale = rows_int8(rows)
    yield Form("8 bit in the file", applied(place, _laid_out(place, op.Mul(op.Cast(codes, to=FLOAT), scale))))
    if place.kind == "embedding":  # short rows: a scale for each would be a good part of the file
        columns, widths = columns_int8(place.weight)
        yield Form(
            "8 bit in the file, a scale for each column", applied(place, op.Mul(op.Cast(columns, to=FLOAT), widths))
        )
    if float(np.abs(rows).max(initial=0)) < float(np.finfo(np.float16).max):
        yield Form(
            "half precision in the file", applied(place, _laid_out(place, op.Cast(rows.astype(np.float16), to=FLOAT)))
        )
    if rows.shape[1] >= BLOCK and place.opset >= FOUR_BITS:
        yield Form(f"4 bit in the file, blocks of {BLOCK}", applied(place, _laid_out(place, _four(rows))))


def _rows(place: Place) -> Array:
    """The weight as [outputs or rows, everything else]."""
    if place.kind == "linear":
        return np.ascontiguousarray(place.weight.T)
    if place.kind == "weight" and place.weight.ndim < 4:  # gates, positions: what is added up lies in the last axis
        return place.weight.reshape(-1, place.weight.shape[-1])
    return place.weight.reshape(len(place.weight), -1)


def _laid_out(place: Place, rows: Expression) -> Expression:
    """Rows as `Place.weight` has them."""
    match place.kind:
        case "linear":
            return op.Transpose(rows, perm=(1, 0))
        case "convolution" | "weight":
            return op.Reshape(rows, np.asarray(place.shape, np.int64))
        case _:
            return rows


def _four(rows: Array) -> Expression:
    """(float(q) − z)·s by blocks, the padding of the last one cut off."""
    count, width = rows.shape
    codes, scale, zero = round_blocks(np.ascontiguousarray(rows.T), 4, BLOCK)
    packed = codes.astype(ml_dtypes.uint4)
    levels = op.Sub(op.Cast(packed, to=FLOAT), op.Cast(zero[..., None], to=FLOAT))
    blocks = op.Mul(levels, op.Unsqueeze(scales_in_8_bits(scale), np.asarray([2], np.int64)))
    flat = op.Reshape(blocks, np.asarray([count, -1], np.int64))
    if codes.shape[1] * BLOCK == width:
        return flat
    return op.Slice(flat, *(np.asarray([n], np.int64) for n in (0, width, 1)))
