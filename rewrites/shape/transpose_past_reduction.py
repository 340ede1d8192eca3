"""Transposes move behind reductions, and vanish with the dimensions they moved."""

from __future__ import annotations

from ...compiler.rule import Rule, Term, Value, op, var
from .axes import Permutation, constant_axes, ints, is_identity, permutation, positive
from .elementwise import declare, snake
from .reductions import REDUCTIONS, REORDERED

x, p, axes, k, a, last = var("x p axes k a last")


def _rule(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, axes: Value | None, k: int) -> Term:
        perm = permutation(p, x.rank)
        moved = [perm[i] for i in constant_axes(axes, x.rank)]
        return _restored(name, x, perm, moved, k)

    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x), axes) = Transpose({name}(x, axes')).",
        op(name)(op.Transpose(x, perm=p), axes, keepdims=k),
        op(name)(op.Transpose(x, perm=p), keepdims=k),
        drift=REORDERED,
        phase="canonicalise",
        peers="ORT L1 TransposeOptimizer",
        example=[
            {"x": "f32[2,3,4]", "p": (0, 2, 1), "axes": "i64[1] = 1", "k": 1},
            {"x": "f32[2,3,4,5]", "p": (0, 2, 3, 1), "axes": "i64[2] = 1 2", "k": 0},
            {"x": "f32[2,n,4,5]", "p": (3, 2, 1, 0), "axes": "i64[1] = -1", "k": 0},
        ],
    )


def _restored(name: str, x: Value, perm: Permutation, reduced: list[int], keep: int) -> Term:
    result = op(name)(x, ints(*sorted(reduced)), keepdims=keep)
    if keep:
        return op.Transpose(result, perm=perm)
    kept = [axis for axis in perm if axis not in reduced]
    order = tuple(sorted(kept).index(axis) for axis in kept)
    return result if is_identity(order) else op.Transpose(result, perm=order)


def _arg(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, a: int, k: int, last: int) -> Term:
        perm = permutation(p, x.rank)
        axis = perm[positive(a, x.rank)]
        result = op(name)(x, axis=axis, keepdims=k, select_last_index=last)
        if k:
            return op.Transpose(result, perm=perm)
        kept = [i for i in perm if i != axis]
        order = tuple(sorted(kept).index(i) for i in kept)
        return result if is_identity(order) else op.Transpose(result, perm=order)

    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x), axis) = Transpose({name}(x, axis')).",
        op(name)(op.Transpose(x, perm=p), axis=a, keepdims=k, select_last_index=last),
        drift="none",
        phase="canonicalise",
        peers="ORT L1 TransposeOptimizer",
        example=[
            {"x": "f32[2,3,4]", "p": (0, 2, 1), "a": 1, "k": 0, "last": 1},
            {"x": "f32[2,3,4]", "p": (2, 1, 0), "a": -1, "k": 1, "last": 0},
        ],
    )


RULES: tuple[Rule, ...] = (*map(_rule, REDUCTIONS), *map(_arg, ("ArgMax", "ArgMin")))
