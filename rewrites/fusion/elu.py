"""Elu, Selu and Celu from their parts (arXiv:1511.07289, arXiv:1706.02515, arXiv:1704.07483)."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float, require_shape

x, c, d, alpha = var("x c d alpha")
grown = op.Sub(op.Exp(x), 1.0)
safely_grown = op.Sub(op.Exp(op.Where(op.Greater(x, 0.0), 0.0, x)), 1.0)


@rule(
    op.Where(op.Greater(x, 0.0), x, grown),
    op.Where(op.Greater(x, 0.0), x, op.Mul(grown, c)),
    op.Where(op.Greater(x, 0.0), x, safely_grown),
    op.Where(op.Greater(x, 0.0), x, op.Mul(safely_grown, c)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "c": "f32[] = 0.7"}, {"x": "f16[8]", "c": "f16[1] = 1.5"}],
    refuse={"x": "f32[8]", "c": "f32[8] const", "pattern": 1, "because": "different numbers"},
)
def elu(x: Value, c: Value | None, root: Value) -> Term:
    """α·(exp(x) - 1) where x ≤ 0, else x, = Elu(x, α)."""
    require_float(x)
    require_shape(root, x)
    return op.Elu(x, alpha=1.0 if c is None else c.scalar)


@rule(
    op.Mul(op.Elu(x, alpha=alpha), c),
    drift="rounding",
    example=[
        {"x": "f32[2,8]", "alpha": 1.6732632, "c": "f32[] = 1.0507009"},
        {"x": "f16[8]", "alpha": None, "c": "f16[1] = 0.5"},
    ],
    refuse=[
        {"x": "f32[8]", "alpha": 1.0, "c": "f32[8] const", "because": "different numbers"},
        {"x": "f32[8]", "alpha": 1.0, "c": "f32[2,1] = 3", "because": "another shape"},
    ],
)
def selu(x: Value, alpha: float, c: Value, root: Value) -> Term:
    """γ·Elu(x, α) = Selu(x, α, γ)."""
    require_shape(root, x)
    return op.Selu(x, alpha=float(alpha), gamma=c.scalar)


@rule(
    op.Mul(op.Elu(op.Div(x, c)), d),
    op.Add(op.Max(x, 0.0), op.Min(op.Mul(op.Sub(op.Exp(op.Div(x, c)), 1.0), d), 0.0)),
    op.Add(op.Relu(x), op.Min(op.Mul(op.Sub(op.Exp(op.Div(x, c)), 1.0), d), 0.0)),
    drift="rounding",
    example={"x": "f32[2,8]", "c": "f32[] = 0.7", "d": "f32[] = 0.7"},
    refuse=[
        {"x": "f32[2,8]", "c": "f32[] = 0.7", "d": "f32[] = 1", "because": "another number"},
        {"x": "f16[2,8]", "c": "f16[] = 0.7", "d": "f16[] = 0.7", "pattern": 0, "because": "float32 only"},
    ],
)
def celu(x: Value, c: Value, d: Value, root: Value) -> Term:
    """α·Elu(x/α) = max(x, 0) + min(0, α·(exp(x/α) - 1)) = Celu(x, α)."""
    if x.dtype != ir.DataType.FLOAT:
        raise Skip("Celu is defined for float32 only")
    if c.scalar != d.scalar or not c.scalar > 0:
        raise Skip("it is multiplied with another number than it was divided by")
    require_shape(root, x)
    return op.Celu(x, alpha=c.scalar)
