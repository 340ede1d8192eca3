"""One over a square root, however it is written, is the reciprocal of the root."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float, require_shape

v, c = var("v c")


@rule(
    op.Pow(v, c),
    drift="rounding",
    example=[{"v": "f32[3,4]", "c": "f32[] = -0.5"}, {"v": "f16[3]", "c": "f16[] = 0.5"}],
    refuse=[
        {"v": "f32[3,4]", "c": "f32[] = 0.25", "because": "exponent"},
        {"v": "i64[3,4]", "c": "f32[] = 0.5", "because": "floating-point"},
        {"v": "f32[1]", "c": "f32[3] = 0.5", "because": "broadcasts"},
    ],
)
def power_of_a_half(v: Value, c: Value, root: Value) -> Term:
    """Pow(v, ½) = √v, Pow(v, -½) = 1/√v."""
    require_float(v)
    if abs(c.scalar) != 0.5:
        raise Skip("the exponent is not a half")
    require_shape(root, v)
    return op.Sqrt(v) if c.scalar > 0 else op.Reciprocal(op.Sqrt(v))


@rule(
    op.Div(c, op.Sqrt(v)),
    drift="rounding",
    example=[{"v": "f32[3,4]", "c": "f32[] = 1"}, {"v": "f64[3]", "c": "f64[1] = 1"}],
    refuse=[
        {"v": "f32[3,4]", "c": "f32[] = 2", "because": "not one"},
        {"v": "f32[3]", "c": "f32[2,1] = 1", "because": "broadcasts"},
    ],
)
def one_over_root(v: Value, c: Value, root: Value) -> Term:
    """1 / √v = Reciprocal(√v)."""
    if c.scalar != 1:
        raise Skip("the dividend is not one")
    require_shape(root, v)
    return op.Reciprocal(op.Sqrt(v))


@rule(
    op.Sqrt(op.Reciprocal(v)),
    op.Sqrt(op.Div(1.0, v)),
    drift="rounding",
    example=[{"v": "f32[3,4]"}, {"v": "f16[3]"}],
)
def root_of_reciprocal(v: Value, root: Value) -> Term:
    """√(1/v) = 1/√v."""
    require_shape(root, v)
    return op.Reciprocal(op.Sqrt(v))
