"""One row normalised and multiplied in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....compiler.rule import Skip, Term, Value, op, rule, var
from .operands import require_one_row

x, s, w, at = var("x s w at")
NORM = {"x": "f32[1,1,32]", "s": "f32[32] const", "w": "f32[24,32] const"}


def epsilon_of(x: Value, at: Mapping[str, Any]) -> float:
    """ε of a normalisation over the last axis, computed in float32; `Skip` for others."""
    if int(at.get("axis", -1)) % x.rank != x.rank - 1:
        raise Skip("the norm is not over the last axis")
    if at.get("stash_type", 1) != 1:
        raise Skip("the norm is not computed in float32")
    return float(at.get("epsilon", 1e-5))


@rule(
    op("ai.tamago::Linear")(op.RMSNormalization(x, s, attributes=at), w),
    drift="rounding",
    phase="lower",
    example=[{**NORM, "at": {"epsilon": 1e-6}}, {**NORM, "at": {"axis": 2}}],
    refuse=[
        {**NORM, "s": "f32[1,32] const", "at": {"axis": 1}, "because": "last axis"},
        {**NORM, "s": "f32[1] const", "at": {}, "because": "one number a column"},
    ],
)
def norm_linear(x: Value, s: Value, w: Value, at: Mapping[str, Any]) -> Term:
    """Linear(RMSNormalization(x, s), w) = NormLinear(x, s, w)."""
    require_one_row(x)
    epsilon = epsilon_of(x, at)
    if s.shape != x.shape[-1:]:
        raise Skip("the scale is not one number a column")
    return op("ai.tamago::NormLinear")(x, s, w, epsilon=epsilon)
