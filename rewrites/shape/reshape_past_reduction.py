"""Reshapes move behind reductions over whole dimensions."""

from __future__ import annotations

from ...compiler.rule import Rule, Skip, Term, Value, op, var
from .axes import constant_axes, ints
from .dimensions import align
from .elementwise import declare, snake
from .reductions import REDUCTIONS, REORDERED
from .reshaping import reshape_expression, reshaped

x, s, axes, k = var("x s axes k")


def _rule(name: str) -> Rule:
    def past(x: Value, s: Value, axes: Value | None, root: Value) -> Term:
        target = reshaped(x, s)
        gone = constant_axes(axes, len(target))
        reduced: list[int] = []
        for inner, outer in align(x.shape, target):
            within = [j for j in outer if j in gone]
            if within and any(target[j] != 1 for j in outer if j not in gone):
                raise Skip("a part of a merged dimension is reduced")
            reduced += inner if within else []
        if not reduced:
            raise Skip("only dimensions of size one are reduced")
        left = tuple(d for i, d in enumerate(x.shape) if i not in reduced)
        return reshape_expression(op(name)(x, ints(*reduced), keepdims=0), left, root.shape)

    return declare(
        past,
        f"reshape_past_{snake(name)}",
        f"{name}(Reshape(x, s), axes) = Reshape({name}(x, axes'), s') over whole dimensions.",
        op(name)(op.Reshape(x, s), axes, keepdims=k),
        op(name)(op.Reshape(x, s), keepdims=k),
        drift=REORDERED,
        phase="canonicalise",
        peers="",
        example=[
            {"x": "f32[2,3,4]", "s": "i64[2] = 2 -1", "axes": "i64[1] = 1", "k": 1},
            {"x": "f32[2,12]", "s": "i64[3] = 2 3 4", "axes": "i64[2] = -1 1", "k": 0},
            {"x": "f32[2,12]", "s": "i64[4] = 2 1 3 4", "axes": "i64[2] = 2 3", "k": 1},
        ],
        refuse=[
            {"x": "f32[2,12]", "s": "i64[3] = 2 3 4", "axes": "i64[1] = 2", "k": 0, "pattern": 0, "because": "a part"},
            {"x": "f32[2]", "s": "i64[2] = 2 1", "axes": "i64[1] = 1", "k": 0, "pattern": 0, "because": "size one"},
        ],
    )


RULES: tuple[Rule, ...] = tuple(map(_rule, REDUCTIONS))
