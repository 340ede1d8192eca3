"""A factor before a matrix product with a constant goes into the constant."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import along, ints, require_constant, require_divisor, require_factor, require_float

x, w, s = var("x w s")

RIGHT = {"x": "f32[2,3,4]", "w": "f32[4,5] const"}
LEFT = {"x": "f32[2,4,3]", "w": "f32[5,4] const"}


def _inner(x: Value, w: Value, s: Value, back: int) -> Term:
    """The factor as a vector along the contracted axis, the `back`-th of x from its end."""
    require_float(x)
    require_constant(w, "the weight")
    if x.rank < 2 or w.rank < 2:
        raise Skip("an operand is a vector")
    if x.shape[-back] != w.shape[back - 3]:
        raise Skip("the factor makes its partner larger")
    return along(s, x.rank - back, x.shape)


@rule(
    op.MatMul(op.Mul(x, s), w),
    drift="rounding",
    example=[
        {**RIGHT, "s": "f32[4] const"},
        {**RIGHT, "s": "f32[] = 0.125"},
        {"x": "f16[N,4]", "w": "f16[3,4,5] const", "s": "f16[1,4] const"},
    ],
    refuse=[
        {**RIGHT, "s": "f32[3,1] const", "because": "another axis"},
        {**RIGHT, "s": "f32[4]", "because": "computed"},
        {**RIGHT, "w": "f32[4,5]", "s": "f32[4] const", "because": "the weight is computed"},
        {**RIGHT, "x": "f32[2,3,1]", "s": "f32[4] const", "because": "larger"},
        {**RIGHT, "s": "f32[] = inf", "because": "not finite"},
    ],
)
def scale_before_matmul(x: Value, w: Value, s: Value) -> Term:
    """(x·s)·w = x·(sᵀ·w) for a number s per contracted position, with a constant w."""
    require_factor(s)
    return op.MatMul(x, op.Mul(w, op.Reshape(_inner(x, w, s, 1), ints(-1, 1))))


@rule(
    op.MatMul(op.Div(x, s), w),
    drift="rounding",
    example=[{**RIGHT, "s": "f32[4] = 1 2 3 4"}, {**RIGHT, "s": "f32[] = 255"}],
    refuse={**RIGHT, "s": "f32[4] = 1 0 2 3", "because": "zeros"},
)
def divisor_before_matmul(x: Value, w: Value, s: Value) -> Term:
    """(x/s)·w = x·(w/sᵀ) for a number s per contracted position, with a constant w."""
    require_divisor(s)
    return op.MatMul(x, op.Div(w, op.Reshape(_inner(x, w, s, 1), ints(-1, 1))))


@rule(
    op.MatMul(w, op.Mul(x, s)),
    drift="rounding",
    example=[{**LEFT, "s": "f32[4,1] const"}, {**LEFT, "s": "f32[1] = 0.5"}],
    refuse=[
        {**LEFT, "s": "f32[3] const", "because": "another axis"},
        {**LEFT, "w": "f32[5,4]", "s": "f32[4,1] const", "because": "the weight is computed"},
    ],
)
def scale_before_left_matmul(x: Value, w: Value, s: Value) -> Term:
    """w·(x·s) = (w·sᵀ)·x for a number s per contracted position, with a constant w."""
    require_factor(s)
    return op.MatMul(op.Mul(w, _inner(x, w, s, 2)), x)
