"""A product with a constant matrix, added to what it is a branch of."""

from __future__ import annotations

from .operator import Operator

LINEAR_ADD = Operator(
    "LinearAdd",
    "LinearAdd(x, w, r) = x·wᵀ + r",
    """
    LinearAdd (x, w, r) => (y) {
        v = Transpose <perm = [1, 0]> (w)
        p = MatMul (x, v)
        y = Add (p, r)
    }
    """,
    weight=1,
    samples=(
        {"x": "f32[1,1,32]", "w": "f32[24,32]", "r": "f32[1,1,24]"},
        {"x": "f16[1,64]", "w": "f16[40,64]", "r": "f16[40]"},
    ),
)
