"""Quotients and reciprocals, one for the other."""

from __future__ import annotations

from math import prod

from ...compiler.facts import Shape
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import keeps_shape, require_every, require_float

x, y, c = var("x y c")


@rule(
    op.Div(c, x),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "c": "f32[1] = 1"},
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 2", "because": "not one"},
        {"x": "i64[2]", "c": "i64[] = 1", "because": "floating"},
        {"x": "f32[2]", "c": "f32[2,1] = 1", "because": "another shape"},
    ],
)
def one_over(x: Value, c: Value) -> Term:
    """1 / x = Reciprocal(x)."""
    require_float(x)
    require_every(c, lambda array: bool((array == 1).all()), "the constant is not one")
    keeps_shape(x, c)
    return op.Reciprocal(x)


@rule(
    op.Mul(x, op.Reciprocal(y)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,n]", "y": "f32[2,1]"}, {"x": "f16[3]", "y": "f16[]"}],
)
def times_reciprocal(x: Value, y: Value) -> Term:
    """x·(1/y) = x / y."""
    return op.Div(x, y)


@rule(
    op.Div(x, op.Reciprocal(y)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "y": "f32[2,1]"},
)
def over_reciprocal(x: Value, y: Value) -> Term:
    """X / (1/y) = x·y."""
    return op.Mul(x, y)


@rule(
    op.Reciprocal(op.Div(x, y)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "y": "f32[2,1]"},
)
def reciprocal_of_quotient(x: Value, y: Value) -> Term:
    """1 / (x / y) = y / x."""
    return op.Div(y, x)


@rule(
    op.Div(x, y),
    drift="rounding",
    phase="explore",
    peers="",
    example=[{"x": "f32[8,6]", "y": "f32[8,1]"}, {"x": "f32[4,n,8]", "y": "f32[4,n,1]"}],
    refuse=[
        {"x": "f32[2,3]", "y": "f32[2,1]", "because": "much smaller"},
        {"x": "f32[8,6]", "y": "f32[8,1] const", "because": "a constant"},
        {"x": "i64[8,6]", "y": "i64[8,1]", "because": "floating"},
    ],
)
def divide_rows(x: Value, y: Value, root: Value) -> Term:
    """X / y = x·(1/y) where every divisor serves at least four elements: as the last step of a normalisation."""
    require_float(x)
    if y.is_const:
        raise Skip("the divisor is a constant")
    if _elements(root.shape) < 4 * _elements(y.shape):
        raise Skip("the divisor is not much smaller than the result")
    return op.Mul(x, op.Reciprocal(y))


def _elements(shape: Shape) -> int:
    """Elements, counting a dimension of unknown size as one on both sides."""
    return prod(d for d in shape if isinstance(d, int))
