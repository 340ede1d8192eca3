"""What is done to every row of a table that is looked up is done to the table."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import along, require_constant, require_factor, require_float

table, ids, w, c, axis = var("table ids w c axis")
LARGEST = 1 << 22  # elements: a table that others read too (tied with the last layer) is kept besides the new one

LOOKUP = {"table": "f32[9,4] const", "ids": "i64[2,3]", "axis": 0}
row = op.Gather(table, ids, axis=axis)


def _require_table(table: Value, axis: int) -> None:
    require_float(table)
    require_constant(table, "the table")
    if table.rank != 2 or axis % 2 != 0:
        raise Skip("what is gathered is not rows of a table")
    if (table.size or 0) > LARGEST:
        raise Skip("the table is too large to keep twice")


@rule(
    op.MatMul(row, w),
    drift="rounding",
    example=[{**LOOKUP, "w": "f32[4,3] const"}, {**LOOKUP, "ids": "i64[N]", "w": "f32[4,4] const"}],
    refuse=[
        {**LOOKUP, "w": "f32[4,5] const", "because": "larger"},
        {**LOOKUP, "w": "f32[4,3]", "because": "computed"},
        {**LOOKUP, "ids": "i64[3]", "axis": 1, "w": "f32[3,3] const", "because": "rows"},
    ],
)
def linear_of_embedding(table: Value, ids: Value, w: Value, axis: int) -> Term:
    """Gather(table, i)·w = Gather(table·w, i) where the new table is not the larger."""
    _require_table(table, axis)
    require_constant(w, "the weight")
    if w.rank != 2 or w.static_shape[1] > w.static_shape[0]:
        raise Skip("the new table would be larger")
    return op.Gather(op.MatMul(table, w), ids, axis=0)


@rule(
    op.Mul(row, c),
    drift="none",
    example=[{**LOOKUP, "c": "f32[] = 2"}, {**LOOKUP, "c": "f32[1,4] const"}],
    refuse=[
        {**LOOKUP, "c": "f32[3,1] const", "because": "another axis"},
        {**LOOKUP, "c": "f32[4]", "because": "computed"},
        {**LOOKUP, "c": "f32[] = inf", "because": "not finite"},
    ],
)
def scaled_embedding(table: Value, ids: Value, c: Value, axis: int) -> Term:
    """Gather(table, i)·c = Gather(table·c, i) for a number c per column."""
    _require_table(table, axis)
    require_factor(c)
    rank = ids.rank + 1
    vector = along(c, rank - 1, (*(None,) * (rank - 1), table.shape[1]))
    return op.Gather(op.Mul(table, vector), ids, axis=0)


@rule(
    op.Add(row, c),
    drift="none",
    example=[{**LOOKUP, "c": "f32[] = 2"}, {**LOOKUP, "c": "f32[4] const"}],
    refuse={**LOOKUP, "c": "f32[3,1] const", "because": "another axis"},
)
def shifted_embedding(table: Value, ids: Value, c: Value, axis: int) -> Term:
    """Gather(table, i) + c = Gather(table + c, i) for a number c per column."""
    _require_table(table, axis)
    rank = ids.rank + 1
    vector = along(c, rank - 1, (*(None,) * (rank - 1), table.shape[1]))
    return op.Gather(op.Add(table, vector), ids, axis=0)
