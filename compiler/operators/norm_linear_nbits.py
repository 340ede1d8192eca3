"""Root mean square normalisation and the product with a matrix in few bits that reads it."""

from __future__ import annotations

from .operator import Operator

NORM_LINEAR_NBITS = Operator(
    "NormLinearNBits",
    "NormLinearNBits(x, g, w, s, z) = MatMulNBits(RMSNormalization(x, g), w, s, z)",
    """
    NormLinearNBits <epsilon, K, N, bits, block_size> (x, g, w, scales, zeros) => (y) {
        n = RMSNormalization <axis = -1, epsilon : float = @epsilon> (x, g)
        y = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (n, w, scales, zeros)
    }
    """,
    weight=2,
    samples=(
        {"x": "f32[1,1,64]", "g": "f32[64]", "w": "u8[24,2,16]", "scales": "f32[48]", "zeros": "u8[24]"}
        | {"epsilon": "1e-5", "K": "64", "N": "24", "bits": "4", "block_size": "32"},
        {"x": "f16[2,64]", "g": "f16[64]", "w": "u8[40,1,64]", "scales": "f16[40]", "zeros": "u8[40]"}
        | {"epsilon": "1e-3", "K": "64", "N": "40", "bits": "8", "block_size": "64"},
    ),
)
