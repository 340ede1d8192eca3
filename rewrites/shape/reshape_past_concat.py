"""Concatenations of values that are all reshaped alike are reshaped afterwards, once."""

from __future__ import annotations

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import positive
from .dimensions import align, same_dim, same_shape
from .reshaping import reshape_expression, reshaped

LARGEST = 6  # operands
NAMES = [f"x{i}" for i in range(LARGEST)]
SHAPES = [f"s{i}" for i in range(LARGEST)]
values, shapes = [var(n) for n in NAMES], [var(n) for n in SHAPES]
k = var("k")


def _example(count: int, operand: str, shape: str, axis: int) -> dict[str, object]:
    named = dict.fromkeys(NAMES[:count], operand) | dict.fromkeys(SHAPES[:count], shape)
    return {"pattern": count - 2, "k": axis, **named}


@rule(
    *(
        op.Concat(*(op.Reshape(v, s) for v, s in zip(values[:n], shapes[:n], strict=True)), axis=k)
        for n in range(2, LARGEST + 1)
    ),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        # (2, 12, 5) as (2, 3, 4, 5), side by side in the last dimension
        *(_example(n, "f32[2,12,5]", "i64[4] = 2 3 4 5", -1) for n in range(2, LARGEST + 1)),
        # stacking: a new dimension of size 1 becomes one of the number of operands
        _example(2, "f32[3,4]", "i64[3] = 1 3 4", 0),
        _example(3, "i64[n,4]", "i64[3] = -1 1 4", 1),
    ],
    refuse=[
        _example(2, "f32[3,4]", "i64[3] = 3 4 1", -1) | {"because": "behind the last"},
        _example(2, "f32[3,4]", "i64[1] = 12", 0) | {"because": "merged or split"},
        _example(2, "f32[12,3]", "i64[2] = 6 6", 0) | {"because": "merged or split"},
        _example(2, "f32[6,2]", "i64[3] = 3 2 2", 2) | {"x1": "f32[3,2,2]", "because": "reshaped differently"},
    ],
)
def reshape_past_concat(
    x0: Value,
    x1: Value,
    x2: Value | None,
    x3: Value | None,
    x4: Value | None,
    x5: Value | None,
    s0: Value,
    s1: Value,
    s2: Value | None,
    s3: Value | None,
    s4: Value | None,
    s5: Value | None,
    k: int,
    root: Value,
) -> Term:
    """Concat(Reshape(x, s), Reshape(y, t)) = Reshape(Concat(x, y), s') along a dimension that is kept or new."""
    operands = [v for v in (x0, x1, x2, x3, x4, x5) if v is not None]
    wanted = [v for v in (s0, s1, s2, s3, s4, s5) if v is not None]
    axis = positive(k, root.rank)
    targets = [reshaped(v, s) for v, s in zip(operands, wanted, strict=True)]
    places = {_place(v.shape, t, axis) for v, t in zip(operands, targets, strict=True)}
    if len(places) > 1 or len({v.rank for v in operands}) > 1:
        raise Skip("the operands are reshaped differently")
    place = places.pop()
    first = operands[0].shape
    for other in operands[1:]:
        if not same_shape(_without(first, place), _without(other.shape, place)):
            raise Skip("the operands are reshaped differently")
    joined = (*first[:place], _sum([v.shape[place] for v in operands]), *first[place + 1 :])
    return reshape_expression(op.Concat(*operands, axis=place), joined, root.shape)


def _place(source: Shape, target: Shape, axis: int) -> int:
    """The operand's dimension to concatenate along: the kept one, or for a new one that which follows it."""
    for inner, outer in align(source, target):
        if axis in outer and len(inner) == len(outer) == 1:
            return inner.start
        if axis in outer and not inner and same_dim(target[axis], 1):
            if inner.start >= len(source):
                raise Skip("the new dimension stands behind the last one")
            return inner.start
    raise Skip("the concatenated dimension is merged or split")


def _without(shape: Shape, place: int) -> Shape:
    return (*shape[:place], *shape[place + 1 :])


def _sum(dims: list[Dim]) -> Dim:
    numbers = [d for d in dims if isinstance(d, int)]
    return sum(numbers) if len(numbers) == len(dims) else None


RULES: tuple[Rule, ...] = (reshape_past_concat,)
