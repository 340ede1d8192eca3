"""A normalisation's scale and bias as a product and a sum after it, which the linear layers that read it take in.

Pays where layers normalise the same value twice (parallel attention and MLP), or where every reader is a linear layer.
"""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import full, require_constant, require_factor, require_float

x, g, b, axis, e, t = var("x g b axis e t")

NORMAL = {"x": "f32[2,3,4]", "g": "f32[4] const", "b": "f32[4] const", "axis": -1, "e": 1e-5, "t": None}


def _require_split(x: Value, g: Value, axis: int) -> None:
    """Only what linear layers can take in: one constant number per position of the last axis."""
    require_float(x)
    require_factor(g)
    if axis % x.rank != x.rank - 1:
        raise Skip("more than the last axis is normalised")
    if g.rank != 1 or g.shape != x.shape[-1:]:
        raise Skip("the scale is not one number per position of the last axis")
    if g.every(lambda array: bool(np.all(array == 1))):
        raise Skip("the scale is one already")


@rule(
    op.LayerNormalization(x, g, axis=axis, epsilon=e, stash_type=t),
    op.LayerNormalization(x, g, b, axis=axis, epsilon=e, stash_type=t),
    drift="rounding",
    example=[NORMAL, {**NORMAL, "x": "f32[N,4]", "axis": 1, "e": 1e-3}],
    refuse=[
        {**NORMAL, "axis": 1, "g": "f32[3,4] const", "b": "f32[3,4] const", "because": "more than the last"},
        {**NORMAL, "g": "f32[4] = 1", "because": "one already"},
        {**NORMAL, "g": "f32[4]", "because": "computed"},
    ],
)
def layer_normalization_without_affine(x: Value, g: Value, b: Value | None, axis: int, e: float, t: int | None) -> Term:
    """LayerNormalization(x, g, b) = LayerNormalization(x, 1)·g + b."""
    _require_split(x, g, axis)
    if b is not None:
        require_constant(b, "the bias")
    plain = op.LayerNormalization(x, full(1.0, g.static_shape, g), axis=axis, epsilon=e, stash_type=t)
    scaled = op.Mul(plain, g)
    return scaled if b is None else op.Add(scaled, b)


@rule(
    op.RMSNormalization(x, g, axis=axis, epsilon=e, stash_type=t),
    drift="rounding",
    example=[NORMAL, {**NORMAL, "x": "f32[N,4]", "axis": 1, "e": 1e-3}],
    refuse=[
        {**NORMAL, "axis": 1, "g": "f32[3,4] const", "because": "more than the last"},
        {**NORMAL, "g": "f32[4] = 1", "because": "one already"},
    ],
)
def rms_normalization_without_scale(x: Value, g: Value, axis: int, e: float, t: int | None) -> Term:
    """RMSNormalization(x, g) = RMSNormalization(x, 1)·g."""
    _require_split(x, g, axis)
    return op.Mul(op.RMSNormalization(x, full(1.0, g.static_shape, g), axis=axis, epsilon=e, stash_type=t), g)
