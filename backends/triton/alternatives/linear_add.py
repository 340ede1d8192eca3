"""One row times a constant matrix, added to a row."""

from __future__ import annotations

from ....compiler.rule import Skip, Term, Value, op, rule, var
from .operands import require_one_row

x, w, r = var("x w r")
LINEAR = {"x": "f32[1,1,32]", "w": "f32[24,32] const"}


@rule(
    op.Add(op("ai.tamago::Linear")(x, w), r),
    op.Add(r, op("ai.tamago::Linear")(x, w)),
    drift="rounding",
    phase="lower",
    example=[{**LINEAR, "r": "f32[1,1,24]"}, {**LINEAR, "r": "f32[24] const"}],
    refuse=[
        {**LINEAR, "r": "f32[3,1,24]", "because": "repeats"},
        {**LINEAR, "r": "f32[1,1,1,24]", "because": "repeats"},
    ],
)
def linear_add(x: Value, w: Value, r: Value) -> Term:
    """Linear(x, w) + r = LinearAdd(x, w, r)."""
    require_one_row(x)
    shape = r.static_shape
    if len(shape) > x.rank or any(d != 1 for d in shape[:-1]):
        raise Skip("the sum repeats the row")
    return op("ai.tamago::LinearAdd")(x, w, r)
