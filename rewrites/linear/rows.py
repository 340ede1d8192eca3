"""Rows of a linear layer's result that are averaged or picked are averaged or picked before it."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import require_constant, require_float

x, y, w, b, axes, keepdims, i, axis, begin, end, steps = var("x y w b axes keepdims i axis begin end steps")

LINEAR = {"x": "f32[2,3,4]", "w": "f32[4,5] const", "b": "f32[5] const", "y": "f32[2,3,5]"}
product = op.MatMul(x, w)
shifted = op.Add(product, b)


def _require_linear(x: Value, w: Value) -> None:
    require_float(x)
    require_constant(w, "the weight")
    if w.rank != 2 or x.rank < 2:
        raise Skip("the weight is not one matrix")


def _require_row(b: Value) -> None:
    if b.rank > 1:
        raise Skip("the bias differs between rows")


def _require_rows(axes: list[int], x: Value) -> None:
    """The axes leave the columns alone, and at least one axis before them."""
    over = {a % x.rank for a in axes}
    if not over or x.rank - 1 in over:
        raise Skip("the columns are among the axes")
    if len(over) == x.rank - 1:
        raise Skip("no axis of rows is left")


def _axes(axes: Value) -> list[int]:
    return [int(a) for a in axes.array.reshape(-1)]


@rule(
    op.ReduceMean(product, axes, keepdims=keepdims),
    op.ReduceMean(shifted, axes, keepdims=keepdims),
    drift="rounding",
    example=[
        {**LINEAR, "axes": "i64[1] = 1", "keepdims": 0},
        {**LINEAR, "axes": "i64[1] = -2", "keepdims": 1},
        {**LINEAR, "x": "f32[N,T,4]", "axes": "i64[1] = 1", "keepdims": 0},
    ],
    refuse=[
        {**LINEAR, "axes": "i64[1] = -1", "keepdims": 1, "because": "columns"},
        {**LINEAR, "axes": "i64[1] = 1", "keepdims": 1, "b": "f32[3,5]", "pattern": 1, "because": "between rows"},
        {**LINEAR, "w": "f32[4,5]", "axes": "i64[1] = 1", "keepdims": 1, "because": "computed"},
    ],
)
def linear_of_mean(x: Value, w: Value, b: Value | None, axes: Value, keepdims: int) -> Term:
    """Mean over rows of x·w + b = (mean over rows of x)·w + b."""
    _require_linear(x, w)
    _require_rows(_axes(axes), x)
    mean = op.MatMul(op.ReduceMean(x, axes, keepdims=keepdims), w)
    if b is None:
        return mean
    _require_row(b)
    return op.Add(mean, b)


@rule(
    op.ReduceMean(op.Add(y, product), axes, keepdims=keepdims),
    op.ReduceMean(op.Add(y, shifted), axes, keepdims=keepdims),
    drift="rounding",
    example={**LINEAR, "axes": "i64[1] = 1", "keepdims": 0},
    refuse=[
        {**LINEAR, "y": "f32[5]", "axes": "i64[1] = 1", "keepdims": 0, "because": "broadcast"},
        {**LINEAR, "axes": "i64[1] = 2", "keepdims": 0, "because": "columns"},
    ],
)
def mean_of_residual(x: Value, y: Value, w: Value, b: Value | None, axes: Value, keepdims: int) -> Term:
    """Mean over rows of y + (x·w + b) = mean of y + ((mean of x)·w + b)."""
    _require_linear(x, w)
    _require_rows(_axes(axes), x)
    if y.shape != (*x.shape[:-1], w.shape[1]) or None in y.shape:
        raise Skip("the operands of the sum broadcast")
    mean = op.MatMul(op.ReduceMean(x, axes, keepdims=keepdims), w)
    if b is not None:
        _require_row(b)
        mean = op.Add(mean, b)
    return op.Add(op.ReduceMean(y, axes, keepdims=keepdims), mean)


@rule(
    op.Gather(product, i, axis=axis),
    op.Gather(shifted, i, axis=axis),
    drift="rounding",
    example=[
        {**LINEAR, "i": "i64[] = 0", "axis": 1},
        {**LINEAR, "x": "f32[2,9,4]", "i": "i64[1]", "axis": -2},
        {**LINEAR, "x": "f32[N,T,4]", "i": "i64[1] = -1", "axis": 1},
    ],
    refuse=[
        {**LINEAR, "i": "i64[] = 0", "axis": 2, "because": "columns"},
        {**LINEAR, "i": "i64[4]", "axis": 1, "because": "more rows"},
        {**LINEAR, "i": "i64[] = 0", "axis": 1, "b": "f32[3,5]", "pattern": 1, "because": "between rows"},
        {**LINEAR, "x": "f32[3,4]", "i": "i64[] = 0", "axis": 0, "because": "no axis"},
    ],
)
def linear_of_gathered_rows(x: Value, w: Value, b: Value | None, i: Value, axis: int) -> Term:
    """Gather(x·w + b, rows i) = Gather(x, rows i)·w + b."""
    _require_linear(x, w)
    if axis % x.rank == x.rank - 1:
        raise Skip("the columns are gathered")
    if i.rank == 0 and x.rank == 2:
        raise Skip("no axis of rows is left")
    size = x.shape[axis]
    if i.size is None or (i.size != 1 and (not isinstance(size, int) or i.size > size)):
        raise Skip("there may be more rows after than before")
    rows = op.MatMul(op.Gather(x, i, axis=axis), w)
    if b is None:
        return rows
    _require_row(b)
    return op.Add(rows, b)


@rule(
    *(op.Slice(r, begin, end, axes, *last) for r in (product, shifted) for last in ((), (steps,))),
    drift="rounding",
    example={**LINEAR, "begin": "i64[1] = -1", "end": "i64[1] = 9", "axes": "i64[1] = 1", "steps": "i64[1] = 1"},
    refuse=[
        {
            **LINEAR,
            "begin": "i64[1] = 0",
            "end": "i64[1] = 1",
            "axes": "i64[1] = -1",
            "steps": "i64[1] = 1",
            "because": "columns",
        },
    ],
)
def linear_of_sliced_rows(
    x: Value, w: Value, b: Value | None, begin: Value, end: Value, axes: Value, steps: Value | None
) -> Term:
    """(x·w + b)[rows] = x[rows]·w + b."""
    _require_linear(x, w)
    if not all(a % x.rank != x.rank - 1 for a in _axes(axes)):
        raise Skip("the columns are cut")
    rows = op.MatMul(op.Slice(x, begin, end, axes, steps), w)
    if b is None:
        return rows
    _require_row(b)
    return op.Add(rows, b)
