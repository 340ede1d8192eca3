"""Variadic operators with one operand or two, and operators that only pass their operand on."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var

x, y, r, t, seed = var("x y r t seed")


@rule(
    op.Sum(x),
    op.Mean(x),
    op.Max(x),
    op.Min(x),
    drift="none",
    phase="canonicalise",
    peers="onnxscript",
    example={"x": "f32[2,n]"},
)
def of_one(x: Value) -> Term:
    """Sum(x) = Mean(x) = Max(x) = Min(x) = x."""
    return x


@rule(
    op.Sum(x, y),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,n]", "y": "f32[n]"},
)
def sum_of_two(x: Value, y: Value) -> Term:
    """Sum(x, y) = x + y."""
    return op.Add(x, y)


@rule(
    op.Identity(x),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 EliminateIdentity, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example={"x": "f32[2,n]"},
)
def identity(x: Value) -> Term:
    """Identity(x) = x."""
    return x


@rule(
    op.Dropout(x, seed=seed),
    op.Dropout(x, r, seed=seed),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 EliminateDropout, onnxslim, onnxoptimizer, onnxscript",
    example={"x": "f32[2,n]", "r": "f32[] = 0.3", "seed": None},
)
def dropout(x: Value) -> Term:
    """Dropout(x) = x when not training."""
    return x
