"""Embedding tables in int8, one scale for each row."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.rule import op
from .symmetric import rows_int8


@method(
    kinds=("embedding",),
    paper="Guan et al., Post-Training 4-bit Quantization on Embedding Tables, 2019, arXiv:1911.02079",
)
def embedding_int8(place: Place, inputs: Inputs) -> Iterator[Form]:
    """E[i] ≈ s_i · Q(E)[i], with s_i = max|row| / 127."""
    codes, scale = rows_int8(place.weight)
    rows = op.Cast(op.Gather(codes, X), to=int(ir.DataType.FLOAT))
    yield Form("8 bit, a scale for each row", op.Mul(rows, op.Gather(scale, X)))
