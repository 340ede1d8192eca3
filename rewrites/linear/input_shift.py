"""A constant added before a matrix product with a constant is a constant added after it."""

from __future__ import annotations

from math import prod

from ...compiler.facts import Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import ints, require_constant, require_factor, require_float

x, w, c = var("x w c")

LINEAR = {"x": "f32[2,3,4]", "w": "f32[4,5] const"}


def _answer(x: Value, w: Value, c: Value) -> Term:
    """What the product answers to the constant alone: c·w.

    Raises:
        Skip: c makes x larger, or the answer would be a larger constant than both.
    """
    require_float(x)
    require_constant(w, "the weight")
    require_factor(c)
    if x.rank < 2 or w.rank < 2:
        raise Skip("an operand is a vector")
    if c.rank > x.rank or any(not _fits(d, n) for d, n in zip(c.shape[::-1], x.shape[::-1], strict=False)):
        raise Skip("the constant makes its partner larger")
    inner, outer = w.static_shape[-2:]
    batch = c.static_shape[:-1]
    rows = prod(batch)
    if rows * outer > max(w.size or 0, rows * inner):
        raise Skip("the product with the weight would be a larger constant")
    if rows == 1 and w.rank == 2:
        return op.MatMul(op.Expand(op.Reshape(c, ints(-1)), ints(inner)), w)  # a plain bias: one vector
    return op.MatMul(op.Expand(c, ints(*(batch or (1,)), inner)), w)


def _fits(own: Dim, partner: Dim) -> bool:
    return own == 1 or (own == partner and own is not None)


@rule(
    op.MatMul(op.Add(x, c), w),
    drift="rounding",
    example=[
        {**LINEAR, "c": "f32[4] const"},
        {**LINEAR, "c": "f32[] = 2"},
        {**LINEAR, "c": "f32[3,4] const"},
        {"x": "f16[N,4]", "w": "f16[3,4,5] const", "c": "f16[1,4] const"},
    ],
    refuse=[
        {**LINEAR, "x": "f32[2,1,4]", "c": "f32[3,4] const", "because": "larger"},
        {**LINEAR, "c": "f32[4]", "because": "computed"},
        {**LINEAR, "w": "f32[4,5]", "c": "f32[4] const", "because": "the weight is computed"},
        {"x": "f32[2,9,4]", "w": "f32[4,5] const", "c": "f32[9,4] const", "because": "larger constant"},
    ],
)
def shift_before_matmul(x: Value, w: Value, c: Value) -> Term:
    """(x + c)·w = x·w + c·w with constants c and w."""
    answer = _answer(x, w, c)
    return op.Add(op.MatMul(x, w), answer)


@rule(
    op.MatMul(op.Sub(x, c), w),
    drift="rounding",
    example=[{**LINEAR, "c": "f32[4] const"}, {**LINEAR, "c": "f32[1] = 2"}],
    refuse={**LINEAR, "c": "f32[4]", "because": "computed"},
)
def difference_before_matmul(x: Value, w: Value, c: Value) -> Term:
    """(x - c)·w = x·w - c·w with constants c and w."""
    answer = _answer(x, w, c)
    return op.Sub(op.MatMul(x, w), answer)
