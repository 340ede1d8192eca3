"""Root mean square normalisation and the gated layer in few bits that reads it."""

from __future__ import annotations

from .operator import Operator

NORM_SWIGLU_NBITS = Operator(
    "NormSwiGLUNBits",
    "NormSwiGLUNBits(x, g, w, s, z, w', s', z') = SwiGLUNBits(RMSNormalization(x, g), w, s, z, w', s', z')",
    """
    NormSwiGLUNBits <epsilon, K, N, bits, block_size> (x, g, w, scales, zeros, v, v_scales, v_zeros) => (y) {
        n = RMSNormalization <axis = -1, epsilon : float = @epsilon> (x, g)
        a = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (n, w, scales, zeros)
        h = Sigmoid (a)
        swish = Mul (a, h)
        b = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (n, v, v_scales, v_zeros)
        y = Mul (swish, b)
    }
    """,
    weight=2,
    samples=(
        {"x": "f32[1,1,64]", "g": "f32[64]", "w": "u8[24,2,16]", "scales": "f32[48]", "zeros": "u8[24]"}
        | {"v": "u8[24,2,16]", "v_scales": "f32[48]", "v_zeros": "u8[24]"}
        | {"epsilon": "1e-5", "K": "64", "N": "24", "bits": "4", "block_size": "32"},
        {"x": "f16[2,64]", "g": "f16[64]", "w": "u8[40,1,64]", "scales": "f16[40]", "zeros": "u8[40]"}
        | {"v": "u8[40,1,64]", "v_scales": "f16[40]", "v_zeros": "u8[40]"}
        | {"epsilon": "1e-3", "K": "64", "N": "40", "bits": "8", "block_size": "64"},
    ),
)
