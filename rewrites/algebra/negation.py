"""Signs taken out of products and sums."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import keeps_shape, require_every

x, y, c = var("x y c")


@rule(
    op.Mul(x, c),
    op.Div(x, c),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,n]", "c": "f32[1] = -1"}, {"x": "i64[3]", "c": "i64[] = -1"}],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 1", "because": "minus one"},
        {"x": "f32[2]", "c": "f32[2,1] = -1", "because": "another shape"},
    ],
)
def times_minus_one(x: Value, c: Value) -> Term:
    """x·(−1) = −x."""
    require_every(c, lambda array: bool((array == -1).all()), "the constant is not minus one")
    keeps_shape(x, c)
    return op.Neg(x)


@rule(
    op.Mul(op.Neg(x), c),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "c": "f32[3] = 0.5 2 -0.0"}, {"x": "i32[3]", "c": "i32[] = 3"}],
    refuse={"x": "f32[2]", "c": "f32[2]", "because": "not a constant"},
)
def negated_times_constant(x: Value, c: Value) -> Term:
    """(−x)·c = x·(−c)."""
    _constant(c)
    return op.Mul(x, op.Neg(c))


@rule(
    op.Neg(op.Mul(x, c)),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "c": "f32[3] = 0.5 2 -0.0"}, {"x": "i32[3]", "c": "i32[] = 3"}],
    refuse={"x": "f32[2]", "c": "f32[2]", "because": "not a constant"},
)
def negated_product(x: Value, c: Value) -> Term:
    """−(x·c) = x·(−c)."""
    _constant(c)
    return op.Mul(x, op.Neg(c))


def _constant(c: Value) -> None:
    if not c.is_const:
        raise Skip("an operand is not a constant")


@rule(
    op.Mul(op.Neg(x), op.Neg(y)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "y": "f32[3]"},
)
def product_of_negated(x: Value, y: Value) -> Term:
    """(−x)·(−y) = x·y."""
    return op.Mul(x, y)


@rule(
    op.Div(op.Neg(x), op.Neg(y)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "y": "f32[3]"},
)
def quotient_of_negated(x: Value, y: Value) -> Term:
    """(−x) / (−y) = x / y."""
    return op.Div(x, y)


@rule(
    op.Add(op.Neg(x), y),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "y": "f32[3]"}, {"x": "i64[2]", "y": "i64[2]"}],
)
def plus_negated(x: Value, y: Value) -> Term:
    """(−x) + y = y − x."""
    return op.Sub(y, x)


@rule(
    op.Sub(y, op.Neg(x)),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3]", "y": "f32[3]"}, {"x": "i64[2]", "y": "i64[2]"}],
)
def minus_negated(x: Value, y: Value) -> Term:
    """Y − (−x) = y + x."""
    return op.Add(y, x)


@rule(
    op.Sub(c, x),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,n]", "c": "f32[1] = 0"}, {"x": "i64[3]", "c": "i64[] = 0"}],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 1", "because": "not zero"},
        {"x": "f32[2]", "c": "f32[2,1] = 0", "because": "another shape"},
    ],
)
def zero_minus(x: Value, c: Value) -> Term:
    """0 − x = −x, but that 0 − 0 is 0 and −0 is −0."""
    require_every(c, lambda array: bool((array == 0).all()), "the constant is not zero")
    keeps_shape(x, c)
    return op.Neg(x)


@rule(
    op.Neg(op.Sub(x, y)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "y": "f32[3]"},
)
def negated_difference(x: Value, y: Value) -> Term:
    """−(x − y) = y − x, but for the sign of zero."""
    return op.Sub(y, x)
