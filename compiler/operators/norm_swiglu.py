"""Root mean square normalisation and the gated layer that reads it."""

from __future__ import annotations

from .operator import Operator

NORM_SWIGLU = Operator(
    "NormSwiGLU",
    "NormSwiGLU(x, s, w, v) = SwiGLU(RMSNormalization(x, s), w, v)",
    """
    NormSwiGLU <epsilon> (x, s, w, v) => (y) {
        n = RMSNormalization <axis = -1, epsilon : float = @epsilon> (x, s)
        wt = Transpose <perm = [1, 0]> (w)
        a = MatMul (n, wt)
        g = Sigmoid (a)
        swish = Mul (a, g)
        vt = Transpose <perm = [1, 0]> (v)
        b = MatMul (n, vt)
        y = Mul (swish, b)
    }
    """,
    weight=2,
    samples=(
        {"x": "f32[1,1,32]", "s": "f32[32]", "w": "f32[24,32]", "v": "f32[24,32]", "epsilon": "1e-5"},
        {"x": "f16[1,64]", "s": "f16[64]", "w": "f16[40,64]", "v": "f16[40,64]", "epsilon": "1e-3"},
    ),
)
