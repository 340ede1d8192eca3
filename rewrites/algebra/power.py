"""Powers with a small constant exponent, and roots."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import require_float

x, c = var("x c")


def _exponent(c: Value, wanted: float) -> None:
    """Raise Skip unless the exponent is one number, this one, and does not enlarge the base."""
    if c.size != 1:
        raise Skip("the exponent is not one number")
    if c.scalar != wanted:
        raise Skip(f"the exponent is not {wanted:g}")


def _fits(x: Value, c: Value) -> None:
    if c.rank > x.rank:
        raise Skip("the exponent broadcasts its base to another shape")


@rule(
    op.Pow(x, c),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,n]", "c": "f32[] = 2"},
        {"x": "f32[3]", "c": "i64[1] = 2"},
        {"x": "i32[3]", "c": "i32[] = 2"},
    ],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 3", "because": "not 2"},
        {"x": "f32[2]", "c": "f32[2] = 2", "because": "one number"},
        {"x": "f32[]", "c": "f32[1] = 2", "because": "another shape"},
    ],
)
def square(x: Value, c: Value) -> Term:
    """x² = x·x."""
    _exponent(c, 2.0)
    _fits(x, c)
    return op.Mul(x, x)


@rule(
    op.Pow(x, c),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "c": "f32[] = 3"},
    refuse={"x": "f32[2]", "c": "f32[] = 2", "because": "not 3"},
)
def cube(x: Value, c: Value) -> Term:
    """x³ = x·(x·x)."""
    _exponent(c, 3.0)
    _fits(x, c)
    return op.Mul(x, op.Mul(x, x))


@rule(
    op.Pow(x, c),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "c": "f32[] = -1"},
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 2", "because": "not -1"},
        {"x": "i32[2]", "c": "f32[] = -1", "because": "floating"},
    ],
)
def inverse(x: Value, c: Value) -> Term:
    """x⁻¹ = 1/x."""
    require_float(x)
    _exponent(c, -1.0)
    _fits(x, c)
    return op.Reciprocal(x)


@rule(
    op.Mul(op.Abs(x), op.Abs(x)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]"},
)
def square_of_abs(x: Value) -> Term:
    """|x|·|x| = x·x."""
    return op.Mul(x, x)
