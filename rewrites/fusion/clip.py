"""Clip from minimum and maximum."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_shape

x, low, high = var("x low high")


@rule(
    op.Min(op.Max(x, low), high),
    op.Max(op.Min(x, high), low),
    drift="none",
    peers="onnxscript",
    example=[
        {"x": "f32[2,8]", "low": "f32[] = -1", "high": "f32[1] = 1"},
        {"x": "i64[2,8]", "low": "i64[] = 2", "high": "i64[] = 5"},
    ],
    refuse=[
        {"x": "f32[2,8]", "low": "f32[] = 1", "high": "f32[] = -1", "because": "above"},
        {"x": "f32[2,8]", "low": "f32[8] const", "high": "f32[] = 9", "because": "different numbers"},
        {"x": "f32[8]", "low": "f32[2,1] = 0", "high": "f32[] = 1", "because": "another shape"},
    ],
)
def clip(x: Value, low: Value, high: Value, root: Value) -> Term:
    """min(max(x, a), b) = Clip(x, a, b) for a ≤ b."""
    if not low.scalar <= high.scalar:
        raise Skip("the lower bound is above the upper one")
    require_shape(root, x)
    return op.Clip(x, _scalar(low), _scalar(high))


def _scalar(bound: Value) -> Term:
    return op.Reshape(bound, np.zeros(0, dtype=np.int64)) if bound.rank else bound
