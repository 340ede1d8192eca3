"""One row times a constant matrix."""

from __future__ import annotations

from ....compiler.rule import Term, Value, op, rule, var
from .operands import require_one_row, rows_of

x, w = var("x w")


@rule(
    op.MatMul(x, w),
    drift="rounding",
    phase="lower",
    example=[{"x": "f32[1,1,32]", "w": "f32[32,24] const"}, {"x": "f16[1,32]", "w": "f16[32,24] const"}],
    refuse=[
        {"x": "f32[1,2,32]", "w": "f32[32,24] const", "because": "more than one row"},
        {"x": "f32[1,1,32]", "w": "f32[32,24]", "because": "computed"},
        {"x": "f64[1,1,32]", "w": "f64[32,24] const", "because": "float32"},
    ],
)
def linear(x: Value, w: Value) -> Term:
    """x·w = Linear(x, wᵀ) for one row x."""
    require_one_row(x)
    return op("ai.tamago::Linear")(x, rows_of(w))
