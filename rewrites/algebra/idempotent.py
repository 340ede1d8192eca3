"""Operators that do nothing the second time, or undo themselves."""

from __future__ import annotations

from ...compiler.rule import Rule, Term, Value, op, rule, var
from ..shape.elementwise import declare, snake

x, y = var("x y")


def _idempotent(name: str) -> Rule:
    def once(x: Value) -> Term:
        return op(name)(x)

    return declare(
        once,
        f"{snake(name)}_twice",
        f"{name}({name}(x)) = {name}(x).",
        op(name)(op(name)(x)),
        drift="none",
        phase="canonicalise",
        peers="onnxoptimizer eliminate_consecutive_idempotent_ops",
        example={"x": "f32[2,n]"},
    )


def _involution(name: str, dtype: str) -> Rule:
    def undone(x: Value) -> Term:
        return x

    return declare(
        undone,
        f"{snake(name)}_undone",
        f"{name}({name}(x)) = x.",
        op(name)(op(name)(x)),
        drift="none",
        phase="canonicalise",
        peers="onnxsim",
        example={"x": f"{dtype}[2,n]"},
    )


@rule(
    op.Floor(op.Ceil(x)),
    op.Round(op.Ceil(x)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]"},
)
def round_of_ceil(x: Value) -> Term:
    """Floor(Ceil(x)) = Round(Ceil(x)) = Ceil(x)."""
    return op.Ceil(x)


@rule(
    op.Ceil(op.Floor(x)),
    op.Round(op.Floor(x)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]"},
)
def round_of_floor(x: Value) -> Term:
    """Ceil(Floor(x)) = Round(Floor(x)) = Floor(x)."""
    return op.Floor(x)


@rule(
    op.Ceil(op.Round(x)),
    op.Floor(op.Round(x)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]"},
)
def ceil_of_round(x: Value) -> Term:
    """Ceil(Round(x)) = Floor(Round(x)) = Round(x)."""
    return op.Round(x)


@rule(op.Abs(op.Neg(x)), drift="none", phase="canonicalise", peers="", example={"x": "f32[2,n]"})
def abs_of_neg(x: Value) -> Term:
    """|−x| = |x|."""
    return op.Abs(x)


@rule(
    op.And(x, x),
    op.Or(x, x),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer",
    example={"x": "b[2,n]"},
)
def logic_of_same(x: Value) -> Term:
    """And(x, x) = Or(x, x) = x."""
    return x


@rule(
    op.Max(x, x),
    op.Min(x, x),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,n]"}, {"x": "i64[3]"}],
)
def extremum_of_same(x: Value) -> Term:
    """Max(x, x) = Min(x, x) = x."""
    return x


@rule(
    op.Max(op.Max(x, y), y),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer",
    example={"x": "f32[2,n]", "y": "f32[n]"},
)
def max_twice(x: Value, y: Value) -> Term:
    """Max(Max(x, y), y) = Max(x, y)."""
    return op.Max(x, y)


@rule(
    op.Min(op.Min(x, y), y),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer",
    example={"x": "f32[2,n]", "y": "f32[n]"},
)
def min_twice(x: Value, y: Value) -> Term:
    """Min(Min(x, y), y) = Min(x, y)."""
    return op.Min(x, y)


RULES: tuple[Rule, ...] = (
    *map(_idempotent, ("Abs", "Ceil", "Floor", "Relu", "Round", "Sign")),
    _involution("Neg", "f32"),
    _involution("Not", "b"),
    round_of_ceil,
    round_of_floor,
    ceil_of_round,
    abs_of_neg,
    logic_of_same,
    extremum_of_same,
    max_twice,
    min_twice,
)
