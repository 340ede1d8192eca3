"""Transposes move behind operators that treat every element by itself, where the next Transpose may undo them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.pointwise import COMMUTATIVE
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import Permutation, permutation
from .elementwise import BINARY, UNARY, declare, moved, snake
from .operands import before_transpose

x, y, p, a, c, left, low, high = var("x y p a c left low high")
PEERS = "ORT L1 TransposeOptimizer"


def _unary(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, a: Mapping[str, Any]) -> Term:
        return op.Transpose(op(name)(x, **a), perm=p)

    dtype, attributes = UNARY[name]
    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x)) = Transpose({name}(x)).",
        op(name)(op.Transpose(x, perm=p), attributes=a),
        drift=moved(name),
        phase="canonicalise",
        peers=PEERS,
        example={"x": f"{dtype}[2,3,4]", "p": (0, 2, 1), "a": attributes},
    )


def _binary(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, c: Value | None, left: Value | None, root: Value) -> Term:
        other = c if c is not None else left
        assert other is not None
        _same_rank(x, root)
        perm = permutation(p, x.rank)
        second = before_transpose(other, perm)
        return op.Transpose(op(name)(x, second) if c is not None else op(name)(second, x), perm=perm)

    dtype = BINARY[name]
    patterns = [op(name)(op.Transpose(x, perm=p), c)]
    if name not in COMMUTATIVE:
        patterns.append(op(name)(left, op.Transpose(x, perm=p)))
    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x), c) = Transpose({name}(x, c')).",
        *patterns,
        drift=moved(name),
        phase="canonicalise",
        peers=PEERS,
        example=[
            _operands(dtype, "[2,3,4]", (0, 2, 1), "[4,3] const"),
            _operands(dtype, "[2,n,4]", (1, 2, 0), "[4,1]"),
            _operands(dtype, "[2,3,4]", None, "[1] const"),
        ],
        refuse=[
            _operands(dtype, "[2,3,4]", (0, 2, 1), "[4,3]") | {"because": "a Transpose of its own"},
            _operands(dtype, "[3,4]", None, "[2,4,3]") | {"because": "more dimensions"},
        ],
    )


def _operands(dtype: str, shape: str, perm: Permutation | None, other: str) -> dict[str, Any]:
    return {"x": dtype + shape, "p": perm, "c": dtype + other, "left": dtype + other}


def _same_rank(x: Value, root: Value) -> None:
    if x.rank != root.rank:
        raise Skip("an operand has more dimensions than the transposed one")


def _pair(name: str) -> Rule:
    def past(x: Value, y: Value, p: Permutation | None) -> Term:
        if x.rank != y.rank:
            raise Skip("the operands have different ranks")
        return op.Transpose(op(name)(x, y), perm=p)

    dtype = BINARY[name]
    return declare(
        past,
        f"transpose_past_{snake(name)}_of_both",
        f"{name}(Transpose(x, p), Transpose(y, p)) = Transpose({name}(x, y), p).",
        op(name)(op.Transpose(x, perm=p), op.Transpose(y, perm=p)),
        drift=moved(name),
        phase="canonicalise",
        peers=PEERS,
        example=[
            {"x": f"{dtype}[2,3,4]", "y": f"{dtype}[2,3,4]", "p": (1, 2, 0)},
            {"x": f"{dtype}[n,1,4]", "y": f"{dtype}[n,3,4]", "p": None},
        ],
        refuse={"x": f"{dtype}[3,4]", "y": f"{dtype}[4]", "p": None, "because": "different ranks"},
    )


@rule(
    op.Clip(op.Transpose(x, perm=p)),
    op.Clip(op.Transpose(x, perm=p), low),
    op.Clip(op.Transpose(x, perm=p), low, high),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,4]", "p": (0, 2, 1), "low": "f32[] = -1", "high": "f32[] = 1"},
)
def transpose_past_clip(x: Value, p: Permutation | None, low: Value | None, high: Value | None) -> Term:
    """Clip(Transpose(x)) = Transpose(Clip(x))."""
    return op.Transpose(op.Clip(x, low, high), perm=p)


@rule(
    op.PRelu(op.Transpose(x, perm=p), c),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,4]", "p": (0, 2, 1), "c": "f32[4,1] const"},
    refuse={"x": "f32[2,3,4]", "p": (0, 2, 1), "c": "f32[4,3]", "because": "a Transpose of its own"},
)
def transpose_past_prelu(x: Value, p: Permutation | None, c: Value) -> Term:
    """PRelu(Transpose(x), c) = Transpose(PRelu(x, c'))."""
    perm = permutation(p, x.rank)
    return op.Transpose(op.PRelu(x, before_transpose(c, perm)), perm=perm)


@rule(
    op.Where(c, op.Transpose(x, perm=p), left),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,4]", "p": (0, 2, 1), "c": "b[2,1,1]", "left": "f32[] = 0"},
    refuse={"x": "f32[3,4]", "p": None, "c": "b[2,1,1]", "left": "f32[]", "because": "more dimensions"},
)
def transpose_past_where(x: Value, p: Permutation | None, c: Value, left: Value, root: Value) -> Term:
    """Where(c, Transpose(x), y) = Transpose(Where(c', x, y'))."""
    _same_rank(x, root)
    perm = permutation(p, x.rank)
    return op.Transpose(op.Where(before_transpose(c, perm), x, before_transpose(left, perm)), perm=perm)


@rule(
    op.Where(c, left, op.Transpose(x, perm=p)),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,4]", "p": (0, 2, 1), "c": "b[2,1,1]", "left": "f32[] = 0"},
    refuse={"x": "f32[3,4]", "p": None, "c": "b[2,1,1]", "left": "f32[]", "because": "more dimensions"},
)
def transpose_past_where_not(x: Value, p: Permutation | None, c: Value, left: Value, root: Value) -> Term:
    """Where(c, y, Transpose(x)) = Transpose(Where(c', y', x))."""
    _same_rank(x, root)
    perm = permutation(p, x.rank)
    return op.Transpose(op.Where(before_transpose(c, perm), before_transpose(left, perm), x), perm=perm)


RULES: tuple[Rule, ...] = (
    *map(_unary, UNARY),
    *map(_binary, BINARY),
    *map(_pair, BINARY),
    transpose_past_clip,
    transpose_past_prelu,
    transpose_past_where,
    transpose_past_where_not,
)
