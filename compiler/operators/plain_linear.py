"""A product with a constant matrix, its weight laid out row by row of the result."""

from __future__ import annotations

from .operator import Operator

LINEAR = Operator(
    "Linear",
    "Linear(x, w) = x·wᵀ",
    """
    Linear (x, w) => (y) {
        v = Transpose <perm = [1, 0]> (w)
        y = MatMul (x, v)
    }
    """,
    weight=1,
    samples=({"x": "f32[1,1,32]", "w": "f32[24,32]"}, {"x": "f16[1,64]", "w": "f16[40,64]"}),
)
