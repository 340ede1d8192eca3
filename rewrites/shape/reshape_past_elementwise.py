"""Reshapes move behind operators that treat every element by itself, where the next Reshape may undo them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.facts import Shape
from ...compiler.pointwise import COMMUTATIVE
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .dimensions import pad_rank, same_shape
from .elementwise import BINARY, UNARY, declare, moved, snake
from .operands import before_reshape
from .reshaping import reshaped

x, y, s, t, a, c, left, low, high = var("x y s t a c left low high")
PEERS = "onnxsim eliminate_reshape_around_elementwise"


def _unary(name: str) -> Rule:
    def past(x: Value, s: Value, a: Mapping[str, Any]) -> Term:
        return op.Reshape(op(name)(x, **a), s)

    dtype, attributes = UNARY[name]
    return declare(
        past,
        f"reshape_past_{snake(name)}",
        f"{name}(Reshape(x, s)) = Reshape({name}(x), s).",
        op(name)(op.Reshape(x, s), attributes=a),
        drift="none",
        phase="canonicalise",
        peers=PEERS,
        example={"x": f"{dtype}[2,6]", "s": "i64[3] = 2 -1 3", "a": attributes},
    )


def _binary(name: str) -> Rule:
    def past(x: Value, s: Value, c: Value | None, left: Value | None, root: Value) -> Term:
        other = c if c is not None else left
        assert other is not None
        target = _target(x, s, root.shape, other)
        _regroups(x.shape, target, other)
        second = before_reshape(other, x.shape, target)
        return op.Reshape(op(name)(x, second) if c is not None else op(name)(second, x), s)

    dtype = BINARY[name]
    patterns = [op(name)(op.Reshape(x, s), c)]
    if name not in COMMUTATIVE:
        patterns.append(op(name)(left, op.Reshape(x, s)))
    return declare(
        past,
        f"reshape_past_{snake(name)}",
        f"{name}(Reshape(x, s), c) = Reshape({name}(x, c'), s) where c broadcasts along whole dimensions.",
        *patterns,
        drift=moved(name),
        phase="canonicalise",
        peers=PEERS,
        example=[
            _operands(dtype, "[2,3,4]", "i64[2] = 6 4", "[4] const"),
            _operands(dtype, "[6,4]", "i64[3] = 2 3 4", "[2,3,1]"),
            _operands(dtype, "[6,4]", "i64[3] = 2 3 4", "[2,3,4]"),
            _operands(dtype, "[n,4]", "i64[3] = -1 2 2", "[1,1] const"),
            _operands(dtype, "[n]", "i64[2] = -1 1", "[1,1] const"),
        ],
        refuse=[
            _operands(dtype, "[6,4]", "i64[3] = 2 3 4", "[3,4]") | {"because": "a part of a reshaped dimension"},
            _operands(dtype, "[4,1]", "i64[1] = 4", "[2,4]") | {"because": "more dimensions"},
            _operands(dtype, "[4,1]", "i64[2] = 1 4", "[2,4]") | {"because": "a part of"},
            _operands(dtype, "[4,1]", "i64[2] = 1 4", "[1,4]") | {"because": "only dimensions of size 1"},
        ],
    )


def _regroups(source: Shape, target: Shape, other: Value) -> None:
    """Raise Skip where the other operand would get a Reshape in place of this one, for a dimension of size 1."""
    if other.is_const or not same_shape(other.shape, target):
        return
    if same_shape(tuple(d for d in source if d != 1), tuple(d for d in target if d != 1)):
        raise Skip("the other operand is as large, and only dimensions of size 1 come or go")


def _pair(name: str) -> Rule:
    def past(x: Value, y: Value, s: Value, t: Value) -> Term:
        if not same_shape(x.shape, y.shape) or not same_shape(reshaped(x, s), reshaped(y, t)):
            raise Skip("the operands are reshaped differently, or their sizes are not known")
        return op.Reshape(op(name)(x, y), s)

    dtype = BINARY[name]
    return declare(
        past,
        f"reshape_past_{snake(name)}_of_both",
        f"{name}(Reshape(x, s), Reshape(y, s)) = Reshape({name}(x, y), s).",
        op(name)(op.Reshape(x, s), op.Reshape(y, t)),
        drift="none",
        phase="canonicalise",
        peers=PEERS,
        example={"x": f"{dtype}[2,3,4]", "y": f"{dtype}[2,3,4]", "s": "i64[2] = 6 4", "t": "i64[2] = -1 4"},
        refuse={
            "x": f"{dtype}[2,3]",
            "y": f"{dtype}[3,2]",
            "s": "i64[1] = 6",
            "t": "i64[1] = 6",
            "because": "differently",
        },
    )


def _operands(dtype: str, shape: str, reshape: str, other: str) -> dict[str, str]:
    return {"x": dtype + shape, "s": reshape, "c": dtype + other, "left": dtype + other}


def _target(x: Value, s: Value, result: Shape, *others: Value) -> Shape:
    """The shape after the Reshape; where -1 is no number, the result's, if no other operand could have enlarged it."""
    target = reshaped(x, s)
    if len(target) != len(result):
        raise Skip("an operand has more dimensions than the reshaped one")
    rows = [pad_rank(other.shape, len(target)) for other in others]
    return tuple(result[i] if dim is None and all(row[i] == 1 for row in rows) else dim for i, dim in enumerate(target))


@rule(
    op.Clip(op.Reshape(x, s)),
    op.Clip(op.Reshape(x, s), low),
    op.Clip(op.Reshape(x, s), low, high),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,6]", "s": "i64[3] = 2 -1 3", "low": "f32[] = -1", "high": "f32[] = 1"},
)
def reshape_past_clip(x: Value, s: Value, low: Value | None, high: Value | None) -> Term:
    """Clip(Reshape(x, s)) = Reshape(Clip(x), s)."""
    return op.Reshape(op.Clip(x, low, high), s)


@rule(
    op.PRelu(op.Reshape(x, s), c),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,1,4]", "s": "i64[3] = 2 3 4", "c": "f32[3,1] const"},
    refuse={"x": "f32[6,4]", "s": "i64[3] = 2 3 4", "c": "f32[3,1]", "because": "a part of a reshaped dimension"},
)
def reshape_past_prelu(x: Value, s: Value, c: Value, root: Value) -> Term:
    """PRelu(Reshape(x, s), c) = Reshape(PRelu(x, c'), s) where c broadcasts along whole dimensions."""
    return op.Reshape(op.PRelu(x, before_reshape(c, x.shape, _target(x, s, root.shape, c))), s)


@rule(
    op.Where(c, op.Reshape(x, s), left),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "c": "b[6,1]", "left": "f32[] = 0"},
    refuse={"x": "f32[2,3,4]", "s": "i64[2] = 2 12", "c": "b[12]", "left": "f32[5,1,1]", "because": "more dimensions"},
)
def reshape_past_where(x: Value, s: Value, c: Value, left: Value, root: Value) -> Term:
    """Where(c, Reshape(x, s), y) = Reshape(Where(c', x, y'), s)."""
    target = _target(x, s, root.shape, c, left)
    return op.Reshape(op.Where(before_reshape(c, x.shape, target), x, before_reshape(left, x.shape, target)), s)


@rule(
    op.Where(c, left, op.Reshape(x, s)),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "c": "b[4]", "left": "f32[] = 0"},
    refuse={"x": "f32[6,4]", "s": "i64[3] = 2 3 4", "c": "b[3,4]", "left": "f32[]", "because": "a part of"},
)
def reshape_past_where_not(x: Value, s: Value, c: Value, left: Value, root: Value) -> Term:
    """Where(c, y, Reshape(x, s)) = Reshape(Where(c', y', x), s)."""
    target = _target(x, s, root.shape, c, left)
    return op.Reshape(op.Where(before_reshape(c, x.shape, target), before_reshape(left, x.shape, target), x), s)


RULES: tuple[Rule, ...] = (
    *map(_unary, UNARY),
    *map(_binary, BINARY),
    *map(_pair, BINARY),
    reshape_past_clip,
    reshape_past_prelu,
    reshape_past_where,
    reshape_past_where_not,
)
