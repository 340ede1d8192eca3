"""Choices that are decided, or are no choice."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.dimensions import broadcast, same_shape
from .broadcasting import require_every

a, c, x, y = var("a c x y")


@rule(
    op.Where(c, x, y),
    drift="none",
    phase="canonicalise",
    peers="onnxsim, onnxscript",
    example=[
        {"c": "b[1] = 1", "x": "f32[2,n]", "y": "f32[n]"},
        {"c": "b[3] = 0", "x": "i64[]", "y": "i64[2,3]"},
    ],
    refuse=[
        {"c": "b[3] = 0 1 0", "x": "f32[3]", "y": "f32[3]", "because": "differs"},
        {"c": "b[1] = 1", "x": "f32[]", "y": "f32[3]", "because": "smaller"},
    ],
)
def where_decided(c: Value, x: Value, y: Value) -> Term:
    """Where(true, x, y) = x, Where(false, x, y) = y."""
    if c.every(lambda array: bool(array.all())):
        taken = x
    else:
        require_every(c, lambda array: not bool(array.any()), "the condition differs from element to element")
        taken = y
    if not same_shape(broadcast(c.shape, x.shape, y.shape), taken.shape):
        raise Skip("what is taken is smaller than the result")
    return taken


@rule(
    op.Where(c, x, x),
    drift="none",
    phase="canonicalise",
    peers="onnxsim",
    example={"c": "b[1]", "x": "f32[2,n]"},
    refuse={"c": "b[2,1]", "x": "f32[3]", "because": "enlarges"},
)
def where_same(c: Value, x: Value) -> Term:
    """Where(c, x, x) = x."""
    if not same_shape(broadcast(c.shape, x.shape), x.shape):
        raise Skip("the condition enlarges the operand")
    return x


@rule(
    op.Where(op.Not(c), x, y),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 NotWhereFusion, onnxoptimizer rewrite_where",
    example={"c": "b[2,n]", "x": "f32[n]", "y": "f32[]"},
)
def where_not(c: Value, x: Value, y: Value) -> Term:
    """Where(Not(c), x, y) = Where(c, y, x)."""
    return op.Where(c, y, x)


@rule(
    op.Where(c, x, y),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"c": "b[2,n]", "x": "f32[] = 1", "y": "f32[1] = 0"},
        {"c": "b[2,3]", "x": "i64[] = 1", "y": "i64[] = 0"},
        {"c": "b[2,3]", "x": "f16[] = 0", "y": "f16[] = 1"},
    ],
    refuse=[
        {"c": "b[2,3]", "x": "f32[] = 2", "y": "f32[] = 0", "because": "one and zero"},
        {"c": "b[3]", "x": "f32[2,1] = 1", "y": "f32[] = 0", "because": "enlarges"},
        {"c": "b[3]", "x": "f32[] = 1", "y": "f32[] = -0.0", "because": "one and zero"},
    ],
)
def where_one_zero(c: Value, x: Value, y: Value) -> Term:
    """Where(c, 1, 0) = Cast(c), Where(c, 0, 1) = Cast(Not(c))."""
    first, second = x.scalar, y.scalar
    if (first, second) not in ((1.0, 0.0), (0.0, 1.0)) or bool(np.signbit(first)) or bool(np.signbit(second)):
        raise Skip("the choice is not between one and zero")
    if not same_shape(broadcast(c.shape, x.shape, y.shape), c.shape):
        raise Skip("an operand enlarges the condition")
    return op.Cast(c if first else op.Not(c), to=x.dtype)


@rule(
    op.Mul(op.Where(c, x, y), a),
    drift="none",
    peers="",
    example=[
        {"c": "b[2,n]", "x": "f32[] = 0", "y": "f32[] = -inf", "a": "f32[] = 0.99"},
        {"c": "b[2,3]", "x": "f16[1] = 1.5", "y": "f16[] = -7", "a": "f16[] = 3"},
        {"c": "b[2,3]", "x": "i64[] = 4", "y": "i64[] = 5", "a": "i64[1] = -2"},
    ],
    refuse=[
        {"c": "b[2,3]", "x": "f32[]", "y": "f32[] = 2", "a": "f32[] = 3", "because": "not a constant"},
        {"c": "b[3]", "x": "f32[] = 1", "y": "f32[3] = 1 2 3", "a": "f32[] = 3", "because": "one constant number"},
        {"c": "b[3]", "x": "f32[] = 1", "y": "f32[] = 2", "a": "f32[1,1] = 3", "because": "more dimensions"},
    ],
)
def where_scaled(c: Value, x: Value, y: Value, a: Value) -> Term:
    """Where(c, x, y)·a = Where(c, x·a, y·a) for constants x, y and a: two numbers are multiplied, not an array."""
    for constant in (x, y, a):
        require_every(constant, lambda array: array.size == 1, "an operand is not one constant number")
    if a.rank > max(c.rank, x.rank, y.rank):
        raise Skip("the factor has more dimensions than the choice")
    return op.Where(c, op.Mul(x, a), op.Mul(y, a))
