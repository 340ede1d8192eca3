"""Variadic operators with one operand or two, and operators that only pass their operand on."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Term, Value, op, rule, var

x, y, r, seed, i = var("x y r seed i")


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


both = op.Dropout(x, seed=seed, outputs=2)
both_at_rate = op.Dropout(x, r, seed=seed, outputs=2)


@rule(
    both.out(i),
    both_at_rate.out(i),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxoptimizer, onnxscript (without the mask)",
    example={"x": "f32[2,n]", "r": "f32[] = 0.3", "seed": None, "i": 1},
)
def dropout_with_mask(x: Value, i: int) -> Term:
    """Dropout(x) = x when not training, and its mask is true everywhere."""
    return x if i == 0 else op.Expand(np.ones([], dtype=np.bool_), op.Shape(x))
