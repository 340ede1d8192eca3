"""The gated half of a feed-forward layer, of one row, in one pass over both weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....compiler.rule import Skip, Term, Value, op, rule, var
from .norm_linear import NORM, epsilon_of
from .operands import require_one_row

x, s, w, v, at = var("x s w v at")
GATE = {"x": "f32[1,1,32]", "w": "f32[24,32] const", "v": "f32[24,32] const"}

gate = op("ai.tamago::Linear")(x, w)
up = op("ai.tamago::Linear")(x, v)
swish = (op.Mul(gate, op.Sigmoid(gate)), op.Mul(op.Sigmoid(gate), gate))


@rule(
    *(op.Mul(a, up) for a in swish),
    *(op.Mul(up, a) for a in swish),
    drift="rounding",
    phase="lower",
    example=GATE,
    refuse={**GATE, "v": "f32[1,32] const", "because": "rows"},
)
def swiglu(x: Value, w: Value, v: Value) -> Term:
    """a·σ(a)·Linear(x, v) with a = Linear(x, w) is SwiGLU(x, w, v)."""
    require_one_row(x)
    if w.shape != v.shape:
        raise Skip("the weights differ in rows")
    return op("ai.tamago::SwiGLU")(x, w, v)


@rule(
    op("ai.tamago::SwiGLU")(op.RMSNormalization(x, s, attributes=at), w, v),
    drift="rounding",
    phase="lower",
    example={**NORM, "v": "f32[24,32] const", "at": {"epsilon": 1e-6}},
    refuse={**NORM, "v": "f32[24,32] const", "s": "f32[1] const", "at": {}, "because": "one number a column"},
)
def norm_swiglu(x: Value, s: Value, w: Value, v: Value, at: Mapping[str, Any]) -> Term:
    """SwiGLU(RMSNormalization(x, s), w, v) = NormSwiGLU(x, s, w, v)."""
    require_one_row(x)
    epsilon = epsilon_of(x, at)
    if s.shape != x.shape[-1:]:
        raise Skip("the scale is not one number a column")
    return op("ai.tamago::NormSwiGLU")(x, s, w, v, epsilon=epsilon)
