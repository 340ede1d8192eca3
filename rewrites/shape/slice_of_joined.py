"""A Slice that takes one part of a Concat again, an element-wise operator between them: the parts need not meet.

Worth it whatever the sizes, since the Slice undoes the Concat: nothing is computed twice, and neither copy is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Rest, Rule, Skip, Term, Value, op, var
from .axes import positive
from .cuts import write_cuts
from .elementwise import BINARY, UNARY, declare, moved, snake
from .slice_before_elementwise import sliced
from .slice_of_concat import joined_shape, parts_taken

y, s, e, c, p, a, k = var("y s e c p a k")
PARTS: dict[str, Any] = {"parts": ("f32[2,3]", "f32[2,4]"), "k": 1, "c": "i64[1] = -1", "p": "i64[1] = 1"}
SECOND = {"s": "i64[1] = 3", "e": "i64[1] = 7"}
ACROSS = {"s": "i64[1] = 2", "e": "i64[1] = 7"}


def _unary(name: str) -> Rule:
    def apart(
        parts: tuple[Value, ...], k: int, s: Value, e: Value, c: Value, p: Value | None, a: Mapping[str, Any]
    ) -> Term:
        axis = positive(k, parts[0].rank)
        taken, cuts = parts_taken(parts, axis, s, e, c, p)
        if len(taken) > 1:
            raise Skip("several parts are taken")
        part, cut, _ = taken[0]
        return op(name)(write_cuts(part, part.shape, {axis: cut, **cuts}), **a)

    dtype, attributes = UNARY[name]
    typed = PARTS | {"parts": tuple(x.replace("f32", dtype) for x in PARTS["parts"]), "a": attributes}
    inner = op(name)(op.Concat(Rest("parts"), axis=k), attributes=a)
    return declare(
        apart,
        f"slice_of_joined_{snake(name)}",
        f"Slice({name}(Concat(x, y, …))) = {name}(y).",
        op.Slice(inner, s, e, c),
        op.Slice(inner, s, e, c, p),
        drift=moved(name),
        phase="canonicalise",
        peers="",
        example=typed | SECOND,
        refuse=typed | ACROSS | {"because": "several parts"},
    )


def _binary(name: str, *, swapped: bool) -> Rule:
    def apart(
        parts: tuple[Value, ...], k: int, y: Value, s: Value, e: Value, c: Value, p: Value | None, root: Value
    ) -> Term:
        axis = positive(k, parts[0].rank)
        taken, cuts = parts_taken(parts, axis, s, e, c, p)
        if len(taken) > 1:
            raise Skip("several parts are taken")
        whole = joined_shape(parts, axis)
        if y.rank > len(whole) or any(
            d not in (1, w) for d, w in zip(y.shape, whole[len(whole) - y.rank :], strict=True)
        ):
            raise Skip("the other operand is not known to leave the joined shape as it is")
        part, cut, begin = taken[0]
        reach = {axis: (begin + cut[0], begin + cut[1], 1), **cuts}
        operands = (
            write_cuts(part, part.shape, {axis: cut, **cuts}),
            write_cuts(y, y.shape, sliced(y, reach, whole)),
        )
        return op(name)(*(reversed(operands) if swapped else operands))

    dtype = BINARY[name]
    typed = PARTS | {"parts": tuple(x.replace("f32", dtype) for x in PARTS["parts"])}
    joined = op.Concat(Rest("parts"), axis=k)
    inner = op(name)(y, joined) if swapped else op(name)(joined, y)
    return declare(
        apart,
        f"slice_of_joined_{snake(name)}{'_right' if swapped else ''}",
        f"Slice({name}({'y, Concat(x, …)' if swapped else 'Concat(x, …), y'})) = {name} of the part and of y's.",
        op.Slice(inner, s, e, c),
        op.Slice(inner, s, e, c, p),
        drift=moved(name),
        phase="canonicalise",
        peers="",
        example=[typed | SECOND | {"y": f"{dtype}[7]"}, typed | SECOND | {"y": f"{dtype}[2,1]"}],
        refuse=[
            typed | ACROSS | {"y": f"{dtype}[7]", "because": "several parts"},
            typed | SECOND | {"y": f"{dtype}[3,1,7]", "because": "joined shape"},
        ],
    )


ONE_SIDED = ("Div", "Pow", "Sub")

RULES: tuple[Rule, ...] = (
    *map(_unary, UNARY),
    *(_binary(name, swapped=False) for name in ("Add", "Mul", *ONE_SIDED)),
    *(_binary(name, swapped=True) for name in ONE_SIDED),
)
