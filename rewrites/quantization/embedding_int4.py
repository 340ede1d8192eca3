"""Embedding tables in 4 bits, in blocks, unpacked as they are looked up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.rule import Skip, op
from .block_weights import pack_pairs, packed_rows, round_blocks
from .double_quantization import scales_in_8_bits

BLOCK = 32


@method(kinds=("embedding",), paper="Guan et al., 4-bit Quantization on Embedding Tables, 2019, arXiv:1911.02079")
def embedding_int4(place: Place, inputs: Inputs) -> Iterator[Form]:
    """E[i] ≈ s_ij · (Q(E)[i] − z_ij), each block j of a row rounded between its minimum and maximum."""
    rows, width = place.shape
    if width % BLOCK:
        raise Skip(f"a row is no whole number of blocks of {BLOCK}")
    codes, scale, zero = round_blocks(np.ascontiguousarray(place.weight.T), 4, BLOCK)
    yield Form(
        f"4 bit, blocks of {BLOCK}",
        op("com.microsoft::GatherBlockQuantized")(
            np.ascontiguousarray(pack_pairs(codes.reshape(rows, width))),
            X,
            scales_in_8_bits(scale),
            packed_rows(zero).reshape(rows, -1),
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=4,
        ),
    )
