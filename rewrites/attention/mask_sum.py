"""Masks and biases added to scores one after another are added to one another first: they are smaller, and shared."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import KERNEL_DTYPES, fit_mask

q, k, m, n, b, y, c = var("q k m n b y c")


@rule(
    op.Add(op.Add(op.MatMul(q, k), m), n),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "m": "f32[1,3,5,6] const", "n": "f32[2,1,1,6]"},
        {"q": "f16[3,L,8]", "k": "f16[3,8,S]", "m": "f16[L,S]", "n": "f16[1,1,1]"},
    ],
    refuse=[
        {"q": "f32[5,8]", "k": "f32[8,6] const", "m": "f32[6]", "n": "f32[5,6]", "because": "two computed"},
        {"q": "f32[1,1,5,8]", "k": "f32[1,1,8,6]", "m": "f32[5,6]", "n": "f32[2,1,5,6]", "because": "that of the"},
        {"q": "f64[5,8]", "k": "f64[8,6]", "m": "f64[6]", "n": "f64[5,6]", "because": "float32 or"},
    ],
)
def sum_of_masks(q: Value, k: Value, m: Value, n: Value) -> Term:
    """(q k + m) + n = q k + (m + n)."""
    if q.dtype not in KERNEL_DTYPES:
        raise Skip("the scores are not float32 or float16")
    if q.is_const or k.is_const:
        raise Skip("this is not a product of two computed matrices")
    fit_mask(m, m.shape, q, k)  # both must broadcast to the scores, which then keep their shape
    fit_mask(n, n.shape, q, k)
    return op.Add(op.MatMul(q, k), op.Add(m, n))


@rule(
    op.Add(op.Where(b, y, m), c),
    drift="none",
    example=[
        {"b": "b[2,1,5,6]", "y": "f32[] = 0", "m": "f32[] = -3.4028234663852886e38", "c": "f32[3,5,6] const"},
        {"b": "b[L]", "y": "f16[1] = 0", "m": "f16[] = -inf", "c": "f16[2,1] const"},
    ],
    refuse=[
        {"b": "b[2,5]", "y": "f32[2,5]", "m": "f32[] = -1", "c": "f32[3,1,5] const", "because": "not all constant"},
        {"b": "b[5]", "y": "f32[] = 0", "m": "f32[] = -1", "c": "f32[5]", "because": "not all constant"},
    ],
)
def constant_into_mask(b: Value, y: Value, m: Value, c: Value) -> Term:
    """(b ? y : m) + c = b ? (y + c) : (m + c) for constants y, m and c."""
    if not (y.is_const and m.is_const and c.is_const):
        raise Skip("the operands are not all constant")
    return op.Where(b, op.Add(y, c), op.Add(m, c))


@rule(
    op.Unsqueeze(op.Where(b, y, m), c),
    drift="none",
    example=[
        {"b": "b[2,5]", "y": "f32[] = 0", "m": "f32[1] = -inf", "c": "i64[2] = 1 2"},
        {"b": "b[L]", "y": "f16[] = 0", "m": "f16[] = -1", "c": "i64[1] = 0"},
    ],
    refuse={"b": "b[2,5]", "y": "f32[5] const", "m": "f32[] = 0", "c": "i64[1] = 0", "because": "not one number"},
)
def unsqueeze_of_mask(b: Value, y: Value, m: Value, c: Value) -> Term:
    """Unsqueeze(b ? y : m) = Unsqueeze(b) ? y : m for numbers y and m."""
    return op.Where(op.Unsqueeze(b, c), _number(y), _number(m))


@rule(
    op.Expand(op.Where(b, y, m), c),
    drift="none",
    example=[
        {"b": "b[2,1,5]", "y": "f32[] = 0", "m": "f32[1] = -inf", "c": "i64[3] = 2 4 5"},
        {"b": "b[L]", "y": "f16[] = 0", "m": "f16[] = -1", "c": "i64[2] = 3 1"},
    ],
    refuse={"b": "b[2,5]", "y": "f32[5] const", "m": "f32[] = 0", "c": "i64[2] = 2 5", "because": "not one number"},
)
def expand_of_mask(b: Value, y: Value, m: Value, c: Value) -> Term:
    """Expand(b ? y : m) = Expand(b) ? y : m for numbers y and m."""
    return op.Where(op.Expand(b, c), _number(y), _number(m))


def _number(choice: Value) -> Term:
    if choice.size != 1 or not choice.is_const:
        raise Skip("a choice of the mask is not one number")
    return op.Reshape(choice, np.zeros(0, dtype=np.int64))
