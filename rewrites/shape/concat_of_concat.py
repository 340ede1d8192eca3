"""Concats of one value, of nothing, and of Concats."""

from __future__ import annotations

from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from .axes import ints, positive

x, y, k = var("x y k")


@rule(
    op.Concat(x, axis=k),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example={"x": "f32[2,3]", "k": 1},
)
def concat_of_one(x: Value) -> Term:
    """Concat(x) = x."""
    return x


@rule(
    op.Concat(Rest("parts"), axis=k),
    drift="none",
    phase="canonicalise",
    peers="onnxscript",
    example=[
        {"parts": ("f32[2,3]", "f32[2,0]"), "k": 1},
        {"parts": ("i64[0]", "i64[n]", "i64[2]"), "k": 0},
    ],
    refuse={"parts": ("f32[2,3]", "f32[2,1]"), "k": 1, "because": "no operand is empty"},
)
def concat_with_nothing(parts: tuple[Value, ...], k: int) -> Term:
    """Concat(x, nothing) = x."""
    axis = positive(k, parts[0].rank)
    full = [part for part in parts if part.shape[axis] != 0]
    if len(full) == len(parts) or not full:
        raise Skip("no operand is empty")
    return full[0] if len(full) == 1 else op.Concat(*full, axis=axis)


@rule(
    op.Concat(op.Concat(Rest("inner"), axis=k), Rest("after"), axis=k),
    op.Concat(x, op.Concat(Rest("inner"), axis=k), Rest("after"), axis=k),
    op.Concat(x, y, op.Concat(Rest("inner"), axis=k), Rest("after"), axis=k),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxoptimizer, onnxsim",
    example=[
        {"x": "f32[1,3]", "y": "f32[2,3]", "inner": ("f32[1,3]", "f32[n,3]"), "after": ("f32[2,3]",), "k": 0},
        {"x": "i64[1]", "y": "i64[1]", "inner": ("i64[1]", "i64[2]"), "after": (), "k": 0},
    ],
    refuse={"inner": ("f32[2]", "f32[0]"), "after": ("f32[2]",), "k": 0, "pattern": 0, "because": "nothing"},
)
def concat_of_concat(
    x: Value | None, y: Value | None, inner: tuple[Value, ...], after: tuple[Value, ...], k: int
) -> Term:
    """Concat(Concat(x, y), z) = Concat(x, y, z)."""
    parts = [*(v for v in (x, y) if v is not None), *inner, *after]
    axis = positive(k, parts[0].rank)
    # x = Concat(x, nothing) would grow without end.
    if any(part.shape[axis] == 0 for part in parts):
        raise Skip("an operand is nothing")
    return op.Concat(*parts, axis=axis)


@rule(
    op.Concat(x, x, axis=k),
    op.Concat(x, x, x, axis=k),
    op.Concat(x, x, x, x, axis=k),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,1,3]", "k": 1},
    refuse={"x": "f32[2,1,3]", "k": 0, "because": "larger than one"},
)
def concat_of_copies(x: Value, k: int, root: Value) -> Term:
    """Concat(x, x) = Expand(x) along a dimension of size 1."""
    axis = positive(k, x.rank)
    count = root.shape[axis]
    if x.shape[axis] != 1 or not isinstance(count, int):
        raise Skip("the dimension is larger than one")
    return op.Expand(x, ints(*(count if i == axis else 1 for i in range(x.rank))))
