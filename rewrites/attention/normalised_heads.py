"""Norms of queries and keys (QK-norm, Henry et al. 2020, arXiv:2010.04245) change places with the split into heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import permutation
from .operands import require_last

x, w, b, p, at = var("x w b p at")


def _require_last_axis_kept(x: Value, p: tuple[int, ...] | None, at: Mapping[str, Any], *weights: Value) -> None:
    require_last(int(at.get("axis", -1)), x.rank)
    if permutation(p, x.rank)[-1] != x.rank - 1:
        raise Skip("the Transpose moves what is normalised")
    if any(weight.rank > 1 for weight in weights):
        raise Skip("the weight varies along other axes")


@rule(
    op.RMSNormalization(op.Transpose(x, perm=p), w, attributes=at),
    drift="none",
    example=[
        {"x": "f32[2,3,5,8]", "w": "f32[8] const", "p": (0, 2, 1, 3), "at": {"epsilon": 1e-3}},
        {"x": "f16[B,L,8]", "w": "f16[8]", "p": (1, 0, 2), "at": {"axis": 2}},
    ],
    refuse=[
        {"x": "f32[2,3,5,8]", "w": "f32[5]", "p": (0, 1, 3, 2), "at": {}, "because": "moves"},
        {"x": "f32[2,3,5,8]", "w": "f32[3,8]", "p": (0, 2, 1, 3), "at": {}, "because": "other axes"},
        {"x": "f32[2,3,8]", "w": "f32[8]", "p": (1, 0, 2), "at": {"axis": 1}, "because": "not the last"},
    ],
)
def rms_norm_of_heads(x: Value, w: Value, p: tuple[int, ...] | None, at: Mapping[str, Any]) -> Term:
    """RMSNormalization(Transpose(x, p)) = Transpose(RMSNormalization(x), p) when p keeps the last axis."""
    _require_last_axis_kept(x, p, at, w)
    return op.Transpose(op.RMSNormalization(x, w, **at), perm=p)


@rule(
    op.LayerNormalization(op.Transpose(x, perm=p), w, attributes=at),
    op.LayerNormalization(op.Transpose(x, perm=p), w, b, attributes=at),
    drift="none",
    example=[
        {"x": "f32[2,3,5,8]", "w": "f32[8] const", "b": "f32[8]", "p": (0, 2, 1, 3), "at": {"epsilon": 1e-3}},
        {"x": "f16[B,L,8]", "w": "f16[8]", "b": "f16[8]", "p": (1, 0, 2), "at": {"axis": 2}},
    ],
    refuse={"x": "f32[2,3,5,8]", "w": "f32[5]", "b": "f32[5]", "p": (0, 1, 3, 2), "at": {}, "because": "moves"},
)
def layer_norm_of_heads(x: Value, w: Value, p: tuple[int, ...] | None, at: Mapping[str, Any], b: Value | None) -> Term:
    """LayerNormalization(Transpose(x, p)) = Transpose(LayerNormalization(x), p) when p keeps the last axis."""
    weights = (w,) if b is None else (w, b)
    _require_last_axis_kept(x, p, at, *weights)
    return op.Transpose(op.LayerNormalization(x, *weights, **at), perm=p)
