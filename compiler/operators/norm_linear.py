"""Root mean square normalisation and the product that reads it: rms(x)⁻¹ is one number, and the product is linear."""

from __future__ import annotations

from .operator import Operator

NORM_LINEAR = Operator(
    "NormLinear",
    "NormLinear(x, s, w) = RMSNormalization(x, s)·wᵀ",
    """
    NormLinear <epsilon> (x, s, w) => (y) {
        n = RMSNormalization <axis = -1, epsilon : float = @epsilon> (x, s)
        v = Transpose <perm = [1, 0]> (w)
        y = MatMul (n, v)
    }
    """,
    weight=2,
    samples=(
        {"x": "f32[1,1,32]", "s": "f32[32]", "w": "f32[24,32]", "epsilon": "1e-5"},
        {"x": "f16[1,64]", "s": "f16[64]", "w": "f16[40,64]", "epsilon": "1e-3"},
    ),
)
