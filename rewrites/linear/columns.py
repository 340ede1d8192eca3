"""Columns of a product that are taken, joined or added up are taken, joined or added up in the constant factor."""

from __future__ import annotations

from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from .operands import ints, require_constant, require_float

x, w, v, b, d, begin, end, axes, steps, axis, keepdims = var("x w v b d begin end axes steps axis keepdims")
rest = Rest("rest")

LINEAR = {"x": "f32[2,3,4]", "w": "f32[4,6] const", "b": "f32[6] const"}
SLICE = {**LINEAR, "begin": "i64[1] = 1", "end": "i64[1] = 6", "axes": "i64[1] = 2", "steps": "i64[1] = 2"}
PAIR = {**LINEAR, "v": "f32[4,5] const", "d": "f32[5] const", "axis": -1}
product = op.MatMul(x, w)
shifted = op.Add(product, b)
other = op.MatMul(x, v)
other_shifted = op.Add(other, d)


def _require_linear(x: Value, *weights: Value) -> None:
    """One operand computed, the others constant matrices."""
    require_float(x)
    for w in weights:
        require_constant(w, "the weight")
        if w.rank != 2:
            raise Skip("the weight is not one matrix")
    if x.rank < 2:
        raise Skip("an operand is a vector")


def _require_row(b: Value, w: Value) -> None:
    """A bias that is one number a column."""
    require_constant(b, "the bias")
    if b.shape != (w.shape[-1],):
        raise Skip("the bias is not one number a column")


def _require_last(axis: int, x: Value) -> None:
    if axis % x.rank != x.rank - 1:
        raise Skip("the axis is not that of the columns")


@rule(
    *(op.Slice(y, begin, end, axes, *last) for y in (product, shifted) for last in ((), (steps,))),
    drift="rounding",
    example=[
        SLICE,
        {**SLICE, "begin": "i64[1] = -2", "end": "i64[1] = 99", "axes": "i64[1] = -1", "steps": "i64[1] = 1"},
    ],
    refuse=[
        {**SLICE, "axes": "i64[1] = 1", "because": "columns"},
        {**SLICE, "w": "f32[4,6]", "because": "computed"},
        {**SLICE, "b": "f32[3,6] const", "pattern": 2, "because": "a column"},
    ],
)
def slice_of_linear(
    x: Value, w: Value, b: Value | None, begin: Value, end: Value, axes: Value, steps: Value | None
) -> Term:
    """(x·w + b)[…, i:j] = x·w[:, i:j] + b[i:j]."""
    _require_linear(x, w)
    numbers = [int(a) for a in axes.array.reshape(-1)]
    if len(numbers) != 1:
        raise Skip("more than the columns is cut")
    _require_last(numbers[0], x)
    require_constant(begin, "the range")
    require_constant(end, "the range")
    part = op.MatMul(x, op.Slice(w, begin, end, ints(1), steps))
    if b is None:
        return part
    _require_row(b, w)
    return op.Add(part, op.Slice(b, begin, end, ints(0), steps))


@rule(
    op.Concat(product, other, rest, axis=axis),
    drift="rounding",
    example=[PAIR, {**PAIR, "axis": 2, "rest": ("f32[2,3,1]",)}],
    refuse=[
        {**PAIR, "v": "f32[4,6] const", "axis": 1, "because": "columns"},
        {**PAIR, "v": "f32[4,5]", "because": "computed"},
    ],
)
def linears_side_by_side(x: Value, w: Value, v: Value, axis: int, rest: tuple[Value, ...]) -> Term:
    """Concat(x·w, x·v) = x·Concat(w, v), along the columns."""
    _require_linear(x, w, v)
    _require_last(axis, x)
    merged = op.MatMul(x, op.Concat(w, v, axis=1))
    return op.Concat(merged, *rest, axis=axis) if rest else merged


@rule(
    op.Concat(shifted, other_shifted, rest, axis=axis),
    drift="rounding",
    example=[PAIR, {**PAIR, "axis": 2, "rest": ("f32[2,3,1]",)}],
    refuse=[
        {**PAIR, "d": "f32[1,5] const", "because": "a column"},
        {**PAIR, "v": "f32[4,6] const", "d": "f32[6] const", "axis": 1, "because": "columns"},
    ],
)
def biased_linears_side_by_side(
    x: Value, w: Value, b: Value, v: Value, d: Value, axis: int, rest: tuple[Value, ...]
) -> Term:
    """Concat(x·w + b, x·v + d) = x·Concat(w, v) + Concat(b, d), along the columns."""
    _require_linear(x, w, v)
    _require_last(axis, x)
    _require_row(b, w)
    _require_row(d, v)
    merged = op.Add(op.MatMul(x, op.Concat(w, v, axis=1)), op.Concat(b, d, axis=0))
    return op.Concat(merged, *rest, axis=axis) if rest else merged


@rule(
    op.Add(product, other),
    drift="rounding",
    example=[{**LINEAR, "v": "f32[4,6] const"}, {"x": "f16[N,4]", "w": "f16[4,2] const", "v": "f16[4,2] const"}],
    refuse=[
        {**LINEAR, "v": "f32[4,6]", "because": "computed"},
        {**LINEAR, "v": "f32[4,1] const", "because": "columns"},
    ],
)
def sum_of_linears(x: Value, w: Value, v: Value) -> Term:
    """x·w + x·v = x·(w + v) with constants w and v."""
    _require_linear(x, w, v)
    if w.shape != v.shape:
        raise Skip("the weights differ in columns")
    return op.MatMul(x, op.Add(w, v))


@rule(
    op.Add(shifted, other),
    op.Add(shifted, other_shifted),
    drift="rounding",
    example={**LINEAR, "v": "f32[4,6] const", "d": "f32[3,6]"},
    refuse={**LINEAR, "v": "f32[4,6]", "d": "f32[6]", "because": "computed"},
)
def sum_of_biased_linears(x: Value, w: Value, b: Value, v: Value, d: Value | None) -> Term:
    """(x·w + b) + (x·v + d) = x·(w + v) + (b + d) with constants w and v."""
    _require_linear(x, w, v)
    if w.shape != v.shape:
        raise Skip("the weights differ in columns")
    return op.Add(op.MatMul(x, op.Add(w, v)), b if d is None else op.Add(b, d))


@rule(
    op.ReduceSum(product, axes, keepdims=keepdims),
    op.ReduceSum(shifted, axes, keepdims=keepdims),
    drift="rounding",
    example=[{**LINEAR, "axes": "i64[1] = -1", "keepdims": 1}, {**LINEAR, "axes": "i64[1] = 2", "keepdims": 0}],
    refuse=[
        {**LINEAR, "axes": "i64[1] = 1", "keepdims": 1, "because": "columns"},
        {**LINEAR, "w": "f32[4,6]", "axes": "i64[1] = 2", "keepdims": 1, "because": "computed"},
    ],
)
def sum_of_columns(x: Value, w: Value, b: Value | None, axes: Value, keepdims: int) -> Term:
    """Σ over columns of x·w + b = x·Σw + Σb."""
    _require_linear(x, w)
    numbers = [int(a) for a in axes.array.reshape(-1)]
    if len(numbers) != 1:
        raise Skip("the sum is not over the columns")
    _require_last(numbers[0], x)
    total = op.MatMul(x, op.ReduceSum(w, ints(1), keepdims=1))
    if b is not None:
        _require_row(b, w)
        total = op.Add(total, op.ReduceSum(b, ints(0), keepdims=1))
    return total if keepdims else op.Squeeze(total, ints(-1))
