"""The opposite of a comparison of integers is a comparison; of floats it is not, because of NaN."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.rule import Rule, Skip, Term, Value, op, var
from ..shape.elementwise import declare, snake

x, y = var("x y")
OPPOSITES = {"Less": "GreaterOrEqual", "LessOrEqual": "Greater", "Greater": "LessOrEqual", "GreaterOrEqual": "Less"}


def _rule(name: str) -> Rule:
    def opposite(x: Value, y: Value) -> Term:
        if x.dtype is None or not ir.DataType(x.dtype).is_integer():
            raise Skip("a comparison with NaN is false, and so is the opposite one")
        return op(OPPOSITES[name])(x, y)

    return declare(
        opposite,
        f"not_{snake(name)}",
        f"Not({name}(x, y)) = {OPPOSITES[name]}(x, y) for integers.",
        op.Not(op(name)(x, y)),
        drift="none",
        phase="canonicalise",
        peers="",
        example={"x": "i64[2,n]", "y": "i64[1]"},
        refuse={"x": "f32[2]", "y": "f32[2]", "because": "NaN"},
    )


RULES: tuple[Rule, ...] = tuple(map(_rule, OPPOSITES))
