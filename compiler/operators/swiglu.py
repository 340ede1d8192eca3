"""The gated half of a feed-forward layer (Shazeer, GLU Variants Improve Transformer, 2020, arXiv:2002.05202)."""

from __future__ import annotations

from .operator import Operator

SWIGLU = Operator(
    "SwiGLU",
    "SwiGLU(x, w, v) = a·σ(a) ⊙ x·vᵀ with a = x·wᵀ",
    """
    SwiGLU (x, w, v) => (y) {
        wt = Transpose <perm = [1, 0]> (w)
        a = MatMul (x, wt)
        g = Sigmoid (a)
        swish = Mul (a, g)
        vt = Transpose <perm = [1, 0]> (v)
        b = MatMul (x, vt)
        y = Mul (swish, b)
    }
    """,
    weight=1,
    samples=(
        {"x": "f32[1,1,32]", "w": "f32[24,32]", "v": "f32[24,32]"},
        {"x": "f16[1,64]", "w": "f16[40,64]", "v": "f16[40,64]"},
    ),
)
