"""Reductions that state their axes in one way, and those that reduce nothing."""

from __future__ import annotations

from ...compiler.rule import Rule, Skip, Term, Value, op, var
from .axes import constant_axes, ints
from .elementwise import declare, snake
from .reductions import IDEMPOTENT, REDUCTIONS
from .reshaping import reshape

x, axes, k, n = var("x axes k n")


def _stated(name: str) -> Rule:
    def stated(x: Value, axes: Value | None, k: int, n: int) -> Term:
        if n and _without_axes(axes):
            raise Skip("without axes nothing is reduced")
        return op(name)(x, ints(*constant_axes(axes, x.rank)), keepdims=k)

    return declare(
        stated,
        f"{snake(name)}_axes",
        f"{name}(x, axes) = {name}(x, axes counted from the front, in rising order).",
        op(name)(x, axes, keepdims=k, noop_with_empty_axes=n),
        op(name)(x, keepdims=k, noop_with_empty_axes=n),
        drift="none",
        phase="canonicalise",
        peers="",
        example={"x": "f32[2,3,n]", "axes": "i64[2] = -1 0", "k": 0, "n": 0},
        refuse={"x": "f32[2,3]", "k": 1, "n": 1, "pattern": 1, "because": "nothing is reduced"},
    )


def _nothing(name: str) -> Rule:
    def nothing(x: Value, axes: Value | None, n: int, root: Value) -> Term:
        if n and _without_axes(axes):
            return x
        if any(x.shape[axis] != 1 for axis in constant_axes(axes, x.rank)):
            raise Skip("a dimension larger than one is reduced")
        return reshape(x, root.shape)

    return declare(
        nothing,
        f"{snake(name)}_of_one",
        f"{name}(x, dimensions of size 1) = Reshape(x), and x when no dimension is named.",
        op(name)(x, axes, keepdims=k, noop_with_empty_axes=n),
        op(name)(x, keepdims=k, noop_with_empty_axes=n),
        drift="none",
        phase="canonicalise",
        peers="onnxsim eliminate_nop_reduce",
        example=[
            {"x": "f32[2,1,3]", "axes": "i64[1] = 1", "k": 0, "n": 0, "pattern": 0},
            {"x": "f32[2,1,n]", "axes": "i64[1] = -2", "k": 1, "n": 1, "pattern": 0},
            {"x": "f32[2,3]", "k": 1, "n": 1, "pattern": 1},
        ],
        refuse={"x": "f32[2,n]", "axes": "i64[1] = 1", "k": 1, "n": 0, "because": "larger than one"},
    )


def _without_axes(axes: Value | None) -> bool:
    return axes is None or not axes.uid or axes.size == 0


RULES: tuple[Rule, ...] = (*map(_stated, REDUCTIONS), *map(_nothing, IDEMPOTENT))
