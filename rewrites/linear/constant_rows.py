"""Constant rows joined to computed ones are a padding and a sum: a class token for every picture of a batch.

With a batch of unknown size the rows must be repeated by a shape computed at run time (Shape, Slice, Concat, Expand);
as padding they need none of it, and the sum joins that of the position embedding.
"""

from __future__ import annotations

from ...compiler.facts import Array, Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import ints, require_constant, require_float

c, s, y, axis = var("c s y axis")

TOKEN = {"c": "f32[4] const", "s": "i64[3] = 2 1 4", "y": "f32[2,3,4]", "axis": 1}


def _rows(c: Value, whole: tuple[Dim, ...], y: Value, axis: int, *, first: bool) -> Term:
    """The rows y padded on one side of the axis, plus the constant padded on the other.

    Args:
        c: the constant, before it is repeated.
        whole: shape of the joined result.
        y: the computed rows.
        axis: of the join.
        first: whether the constant stands before y.

    Raises:
        Skip: a size along the axis is not known, or the constant varies along an axis of unknown size.
    """
    require_float(y)
    require_constant(c, "the joined value")
    axis %= y.rank
    length, total = y.shape[axis], whole[axis]
    if not isinstance(length, int) or not isinstance(total, int):
        raise Skip("a size along the axis is not known")
    dims = (1,) * (y.rank - c.rank) + c.static_shape
    rows = total - length
    if rows <= 0 or dims[axis] not in (1, rows):
        raise Skip("there are no constant rows")
    front, back = (rows, 0) if first else (0, rows)
    none = (0,) * y.rank

    def pads(before: int, after: int) -> Array:
        return ints(*none[:axis], before, *none[axis + 1 :], *none[:axis], after, *none[axis + 1 :])

    block = op.Expand(op.Reshape(c, ints(*dims)), ints(*dims[:axis], rows, *dims[axis + 1 :]))
    room = (0, length) if first else (length, 0)
    return op.Add(op.Pad(y, pads(front, back)), op.Pad(block, pads(*room)))


@rule(
    op.Concat(op.Expand(c, s), y, axis=axis),
    drift="rounding",  # -0 + 0 is +0
    example=[
        TOKEN,
        {**TOKEN, "c": "f32[2,4] const", "s": "i64[3] = 2 2 4", "axis": -2},
        {"c": "f16[1,1] const", "s": "i64[2] = 3 2", "y": "f16[3,2]", "axis": 1},
    ],
    refuse=[
        {**TOKEN, "c": "f32[4]", "because": "computed"},
        {**TOKEN, "y": "f32[2,T,4]", "because": "not known"},
        {**TOKEN, "c": "i64[4] const", "y": "i64[2,3,4]", "because": "floating-point"},
    ],
)
def constant_rows_before(c: Value, y: Value, axis: int, root: Value) -> Term:
    """Concat(Expand(c), y) = Pad(y, before) + Pad(c, after)."""
    return _rows(c, root.shape, y, axis, first=True)


@rule(
    op.Concat(y, op.Expand(c, s), axis=axis),
    drift="rounding",
    example=TOKEN,
    refuse={**TOKEN, "c": "f32[4]", "because": "computed"},
)
def constant_rows_after(c: Value, y: Value, axis: int, root: Value) -> Term:
    """Concat(y, Expand(c)) = Pad(y, after) + Pad(c, before)."""
    return _rows(c, root.shape, y, axis, first=False)
