"""The gated half of a feed-forward layer, both of its matrices in few bits."""

from __future__ import annotations

from .operator import Operator

SWIGLU_NBITS = Operator(
    "SwiGLUNBits",
    "SwiGLUNBits(x, w, s, z, w', s', z') = a·σ(a) ⊙ MatMulNBits(x, w', s', z') with a = MatMulNBits(x, w, s, z)",
    """
    SwiGLUNBits <K, N, bits, block_size> (x, w, scales, zeros, v, v_scales, v_zeros) => (y) {
        a = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (x, w, scales, zeros)
        g = Sigmoid (a)
        swish = Mul (a, g)
        b = com.microsoft.MatMulNBits
            <K : int = @K, N : int = @N, bits : int = @bits, block_size : int = @block_size> (x, v, v_scales, v_zeros)
        y = Mul (swish, b)
    }
    """,
    weight=1,
    samples=(
        {"x": "f32[1,1,64]", "w": "u8[24,2,16]", "scales": "f32[48]", "zeros": "u8[24]"}
        | {"v": "u8[24,2,16]", "v_scales": "f32[48]", "v_zeros": "u8[24]"}
        | {"K": "64", "N": "24", "bits": "4", "block_size": "32"},
        {"x": "f16[2,64]", "w": "u8[40,1,64]", "scales": "f16[40]", "zeros": "u8[40]"}
        | {"v": "u8[40,1,64]", "v_scales": "f16[40]", "v_zeros": "u8[40]"}
        | {"K": "64", "N": "40", "bits": "8", "block_size": "64"},
    ),
)
