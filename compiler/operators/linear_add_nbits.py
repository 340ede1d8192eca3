"""A product with a matrix in few bits, added to what it is a branch of."""

from __future__ import annotations

from .operator import Operator

LINEAR_ADD_NBITS = Operator(
    "LinearAddNBits",
    "LinearAddNBits(x, w, s, z, r) = MatMulNBits(x, w, s, z) + r",
    """
    LinearAddNBits <K, N, bits, block_size> (x, w, scales, zeros, r) => (y) {
        p = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (x, w, scales, zeros)
        y = Add (p, r)
    }
    """,
    weight=1,
    samples=(
        {"x": "f32[1,1,64]", "w": "u8[24,2,16]", "scales": "f32[48]", "zeros": "u8[24]", "r": "f32[1,1,24]"}
        | {"K": "64", "N": "24", "bits": "4", "block_size": "32"},
        {"x": "f16[2,64]", "w": "u8[40,1,64]", "scales": "f16[40]", "zeros": "u8[40]", "r": "f16[40]"}
        | {"K": "64", "N": "40", "bits": "8", "block_size": "64"},
    ),
)
