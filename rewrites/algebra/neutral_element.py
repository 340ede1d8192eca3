"""Arithmetic with a neutral element does nothing."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var

x, c = var("x c")


@rule(
    op.Mul(x, c),
    op.Div(x, c),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 NoopElimination, onnxslim, onnxscript",
    example={"x": "f32[2,3]", "c": "f32[1] = 1"},
    refuse=[
        {"x": "f32[2,3]", "c": "f32[3] = 1 1 2", "because": "different numbers"},
        {"x": "f32[3]", "c": "f32[2,1] = 1 1", "because": "another shape"},
    ],
)
def times_one(x: Value, c: Value, root: Value) -> Term:
    """x·1 = x, x/1 = x."""
    if c.scalar != 1:
        raise Skip("the factor is not one")
    if root.shape != x.shape:
        raise Skip("the factor broadcasts its operand to another shape")
    return x
