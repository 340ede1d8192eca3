"""Sigmoid from its parts, and the gates that are built on it."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import is_close, require_float, require_shape

x, y, c, d, one, half = var("x y c d one half")
denominator = op.Add(op.Exp(op.Neg(x)), 1.0)


@rule(
    op.Reciprocal(denominator),
    op.Div(one, denominator),
    drift="rounding",
    example=[{"x": "f32[2,8]", "one": "f32[] = 1"}, {"x": "f16[8]", "one": "f16[1] = 1"}],
    refuse=[
        {"x": "f32[8]", "one": "f32[2,1] = 1", "pattern": 1, "because": "another shape"},
        {"x": "f32[8]", "one": "f32[] = 2", "pattern": 1, "because": "not one"},
    ],
)
def sigmoid(x: Value, one: Value | None, root: Value) -> Term:
    """1 / (1 + exp(-x)) = Sigmoid(x)."""
    if one is not None and one.scalar != 1:
        raise Skip("the dividend is not one")
    require_shape(root, x)
    return op.Sigmoid(x)


@rule(
    op.Div(y, denominator),
    drift="rounding",
    example=[{"x": "f32[2,8]", "y": "f32[2,8]"}, {"x": "f16[8]", "y": "f16[2,1]"}],
)
def over_one_plus_exponential(x: Value, y: Value) -> Term:
    """y/(1 + exp(-x)) = y·Sigmoid(x)."""
    return op.Mul(y, op.Sigmoid(x))


@rule(
    op.Mul(op.Add(op.Tanh(op.Mul(x, 0.5)), 1.0), half),
    op.Add(op.Mul(op.Tanh(op.Mul(x, 0.5)), half), 0.5),
    drift="rounding",
    example=[{"x": "f32[2,8]", "half": "f32[] = 0.5"}, {"x": "f16[8]", "half": "f16[1] = 0.5"}],
    refuse={"x": "f32[2,8]", "half": "f32[] = 0.25", "because": "not a half"},
)
def sigmoid_of_tanh(x: Value, half: Value, root: Value) -> Term:
    """½·(1 + tanh(x/2)) = Sigmoid(x)."""
    if not is_close(half.scalar, 0.5, x):
        raise Skip("the factor is not a half")
    require_shape(root, x)
    return op.Sigmoid(x)


@rule(
    op.Mul(x, op.Mul(op.Sigmoid(x), y)),
    op.Mul(op.Sigmoid(x), op.Mul(x, y)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "y": "f32[2,8]"}, {"x": "f16[8]", "y": "f16[2,1]"}],
)
def swish_gate(x: Value, y: Value) -> Term:
    """x·(σ(x)·y) = σ(x)·(x·y) = (x·σ(x))·y: the swish stands alone (SwiGLU, Shazeer 2020, arXiv:2002.05202)."""
    return op.Mul(op.Mul(x, op.Sigmoid(x)), y)


@rule(
    op.Div(x, op.Add(op.Abs(x), 1.0)),
    drift="rounding",
    example=[{"x": "f32[2,8]"}],
    refuse={"x": "i64[2,8]", "because": "floating-point"},
)
def softsign(x: Value, root: Value) -> Term:
    """x/(1 + |x|) = Softsign(x)."""
    require_float(x)
    require_shape(root, x)
    return op.Softsign(x)
