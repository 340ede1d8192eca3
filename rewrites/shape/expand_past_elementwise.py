"""An Expand before a broadcasting operator is done by the broadcast; before any other it may as well come after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.pointwise import COMMUTATIVE
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .dimensions import broadcast, same_shape
from .elementwise import BINARY, UNARY, declare, moved, snake

x, y, left, s, c, a = var("x y left s c a")
PEERS = "onnxscript expand_before_binary (opt-in)"


def _unary(name: str) -> Rule:
    def past(x: Value, s: Value, a: Mapping[str, Any]) -> Term:
        return op.Expand(op(name)(x, **a), s)

    dtype, attributes = UNARY[name]
    return declare(
        past,
        f"expand_past_{snake(name)}",
        f"{name}(Expand(x, s)) = Expand({name}(x), s).",
        op(name)(op.Expand(x, s), attributes=a),
        drift=moved(name),
        phase="canonicalise",
        peers="",
        example={"x": f"{dtype}[2,1]", "s": "i64[2] = 2 3", "a": attributes},
    )


def _binary(name: str) -> Rule:
    def past(x: Value, s: Value, y: Value | None, left: Value | None, root: Value) -> Term:
        other = y if y is not None else left
        assert other is not None
        result = op(name)(x, other) if y is not None else op(name)(other, x)
        return result if same_shape(broadcast(x.shape, other.shape), root.shape) else op.Expand(result, s)

    dtype = BINARY[name]
    patterns = [op(name)(op.Expand(x, s), y)]
    if name not in COMMUTATIVE:
        patterns.append(op(name)(left, op.Expand(x, s)))
    return declare(
        past,
        f"expand_past_{snake(name)}",
        f"{name}(Expand(x, s), y) = {name}(x, y), expanded where y does not broadcast it.",
        *patterns,
        drift=moved(name),
        phase="canonicalise",
        peers=PEERS,
        example=[
            {"x": f"{dtype}[2,1]", "s": "i64[2] = 2 3", "y": f"{dtype}[2,3]", "left": f"{dtype}[2,3]"},
            {"x": f"{dtype}[2,1]", "s": "i64[2] = 2 3", "y": f"{dtype}[1]", "left": f"{dtype}[1]"},
            {"x": f"{dtype}[1]", "s": "i64[2] = 1 1", "y": f"{dtype}[n,3]", "left": f"{dtype}[n,3]"},
        ],
    )


@rule(
    op.Where(c, op.Expand(x, s), y),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[2,3]", "c": "b[2,1]"},
    refuse={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[]", "c": "b[2,1]", "because": "smaller"},
)
def expand_before_where(x: Value, c: Value, y: Value, root: Value) -> Term:
    """Where(c, Expand(x), y) = Where(c, x, y)."""
    return _where(op.Where(c, x, y), root, c, x, y)


@rule(
    op.Where(c, y, op.Expand(x, s)),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[2,3]", "c": "b[2,1]"},
    refuse={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[]", "c": "b[2,1]", "because": "smaller"},
)
def expand_before_where_not(x: Value, c: Value, y: Value, root: Value) -> Term:
    """Where(c, y, Expand(x)) = Where(c, y, x)."""
    return _where(op.Where(c, y, x), root, c, x, y)


@rule(
    op.Where(op.Expand(c, s), x, y),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[2,3]", "c": "b[2,1]"},
    refuse={"x": "f32[1]", "s": "i64[2] = 2 3", "y": "f32[]", "c": "b[2,1]", "because": "smaller"},
)
def expand_before_condition(x: Value, c: Value, y: Value, root: Value) -> Term:
    """Where(Expand(c), x, y) = Where(c, x, y)."""
    return _where(op.Where(c, x, y), root, c, x, y)


def _where(result: Term, root: Value, *operands: Value) -> Term:
    if not same_shape(broadcast(*(v.shape for v in operands)), root.shape):
        raise Skip("the result would be smaller")
    return result


@rule(
    op.MatMul(op.Expand(x, s), y),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[1,4,5]", "s": "i64[3] = 2 4 5", "y": "f32[2,5,3]"},
    refuse=[
        {"x": "f32[1,4,5]", "s": "i64[3] = 2 4 5", "y": "f32[5,3]", "because": "batch"},
        {"x": "f32[2,1,5]", "s": "i64[3] = 2 4 5", "y": "f32[2,5,3]", "because": "matrices"},
    ],
)
def expand_before_matmul(x: Value, y: Value, root: Value) -> Term:
    """MatMul(Expand(x), y) = MatMul(x, y) when only batch dimensions are expanded and y broadcasts them."""
    if x.rank < 2 or y.rank < 2 or not same_shape(x.shape[-2:], (root.shape[-2], y.shape[-2])):
        raise Skip("the matrices are expanded")
    _batch(root, x, y)
    return op.MatMul(x, y)


@rule(
    op.MatMul(y, op.Expand(x, s)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[1,5,3]", "s": "i64[3] = 2 5 3", "y": "f32[2,4,5]"},
    refuse=[
        {"x": "f32[1,5,3]", "s": "i64[3] = 2 5 3", "y": "f32[4,5]", "because": "batch"},
        {"x": "f32[2,5,1]", "s": "i64[3] = 2 5 3", "y": "f32[2,4,5]", "because": "matrices"},
    ],
)
def expand_before_matmul_right(x: Value, y: Value, root: Value) -> Term:
    """MatMul(y, Expand(x)) = MatMul(y, x) when only batch dimensions are expanded and y broadcasts them."""
    if x.rank < 2 or y.rank < 2 or not same_shape(x.shape[-2:], (y.shape[-1], root.shape[-1])):
        raise Skip("the matrices are expanded")
    _batch(root, x, y)
    return op.MatMul(y, x)


def _batch(root: Value, x: Value, y: Value) -> None:
    if not same_shape(broadcast(x.shape[:-2], y.shape[:-2]), root.shape[:-2]):
        raise Skip("the other operand does not broadcast the batch dimensions")


RULES: tuple[Rule, ...] = (
    *map(_unary, UNARY),
    *map(_binary, BINARY),
    expand_before_where,
    expand_before_where_not,
    expand_before_condition,
    expand_before_matmul,
    expand_before_matmul_right,
)
