"""Heads of keys and values repeated for groups of queries (grouped-query attention, Ainslie et al. 2023, 2305.13245).

Exporters write `repeat_kv` as Unsqueeze, Expand, Reshape. Its canonical form here is one Gather along the heads, which
Attention takes in (`attention_heads.py`) and a plain product need not make at all.
"""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import ints, permutation
from ..shape.dimensions import same_dim
from .operands import require_number

x, y, s, e, r, i, p, z = var("x y s e r i p z")


def repeats(index: Value, heads: int) -> int:
    """How often each head is repeated in a row by a Gather with this index: 0 0 1 1 … → 2.

    Raises:
        Skip: the index is something else.
    """
    array = index.array
    times, rest = divmod(array.size, heads) if heads else (0, 1)
    if array.ndim != 1 or rest or times < 1 or not np.array_equal(array, _repeated(heads, times)):
        raise Skip("the heads are not each repeated in a row")
    return times


def _repeated(heads: int, times: int) -> Array:
    return np.repeat(np.arange(heads, dtype=np.int64), times)


@rule(
    op.Reshape(op.Expand(op.Unsqueeze(x, s), e), r, attributes=z),
    drift="none",
    example=[
        {"x": "f32[2,3,5,4]", "s": "i64[1] = 2", "e": "i64[5] = 2 3 2 5 4", "r": "i64[4] = 2 6 5 4", "z": {}},
        {"x": "f16[B,3,5,4]", "s": "i64[] = 2", "e": "i64[5] = 1 1 4 1 1", "r": "i64[4] = 0 12 5 4"} | {"z": {}},
        {"x": "i64[2,1,5]", "s": "i64[1] = -2", "e": "i64[4] = 2 1 3 5", "r": "i64[3] = 2 3 5"}
        | {"z": {"allowzero": 1}},
    ],
    refuse=[
        {
            "x": "f32[2,3,4]",
            "s": "i64[1] = 1",
            "e": "i64[4] = 2 2 3 4",
            "r": "i64[3] = 2 6 4",
            "z": {},
            "because": "in a row",
        },
        {
            "x": "f32[2,3,4]",
            "s": "i64[1] = 2",
            "e": "i64[4] = 2 3 2 4",
            "r": "i64[3] = 2 3 8",
            "z": {},
            "because": "in a row",
        },
        {
            "x": "f32[2,H,4]",
            "s": "i64[1] = 2",
            "e": "i64[4] = 1 1 2 1",
            "r": "i64[3] = 2 -1 4",
            "z": {},
            "because": "known",
        },
    ],
)
def repeat_heads(x: Value, s: Value, root: Value) -> Term:
    """Reshape(Expand(Unsqueeze(x, 2))) = Gather(x, 0 0 … 1 1 …) along the axis whose every entry is repeated."""
    axes = [int(a) % (x.rank + 1) for a in s.array.reshape(-1)]
    if len(axes) != 1 or axes[0] == 0 or root.rank != x.rank:
        raise Skip("the entries of no axis are repeated in a row")
    axis = axes[0] - 1
    others = [(a, b) for place, (a, b) in enumerate(zip(x.shape, root.shape, strict=True)) if place != axis]
    if not all(same_dim(a, b) for a, b in others):
        raise Skip("the entries of no axis are repeated in a row")
    size = require_number(x.shape[axis], "the number of heads")
    total = require_number(root.shape[axis], "the number of repeated heads")
    if size == 0 or total % size:
        raise Skip("the entries of no axis are repeated in a row")
    return op.Gather(x, _repeated(size, total // size), axis=axis)


@rule(
    op.Transpose(op.Gather(x, i, axis=1), perm=p),
    drift="none",
    example=[
        {"x": "f32[2,3,5,4]", "i": "i64[6] = 0 0 1 1 2 2", "p": (0, 1, 3, 2)},
        {"x": "f16[B,2,L]", "i": "i64[4] = 0 0 1 1", "p": (2, 1, 0)},
    ],
    refuse=[
        {"x": "f32[2,3,5,4]", "i": "i64[6] = 0 0 1 1 2 2", "p": (0, 2, 1, 3), "because": "moves"},
        {"x": "f32[2,3,5,4]", "i": "i64[3] = 0 2 1", "p": (0, 1, 3, 2), "because": "in a row"},
    ],
)
def transpose_of_repeated(x: Value, i: Value, p: tuple[int, ...] | None) -> Term:
    """Transpose(Gather(x, i, axis=1), p) = Gather(Transpose(x, p), i, axis=1) for p that leaves the heads in place."""
    repeats(i, require_number(x.shape[1], "the number of heads"))
    perm = permutation(p, x.rank)
    if perm[1] != 1:
        raise Skip("the Transpose moves the heads")
    return op.Gather(op.Transpose(x, perm=perm), i, axis=1)


@rule(
    op.MatMul(x, op.Gather(y, i, axis=1)),
    drift="rounding",
    example=[
        {"x": "f32[2,6,5,4]", "y": "f32[2,3,4,7]", "i": "i64[6] = 0 0 1 1 2 2"},
        {"x": "f16[B,4,L,8]", "y": "f16[B,1,8,S]", "i": "i64[4] = 0"},
    ],
    refuse=[
        {"x": "f32[2,6,5,4]", "y": "f32[1,3,4,7]", "i": "i64[6] = 0 0 1 1 2 2", "because": "batch"},
        {"x": "f32[2,1,5,4]", "y": "f32[2,3,4,7]", "i": "i64[6] = 0 0 1 1 2 2", "because": "number of heads"},
        {"x": "f32[2,6,5,K]", "y": "f32[2,3,K,S]", "i": "i64[6] = 0 0 1 1 2 2", "because": "not known"},
        {"x": "f32[2,3,5,4]", "y": "f32[2,3,4,7]", "i": "i64[3] = 0 2 1", "because": "in a row"},
    ],
)
def grouped_product(x: Value, y: Value, i: Value, root: Value) -> Term:
    """MatMul(x, Gather(y, 0 0 1 1 …)) = the rows of each group of x under one another, times y, unrepeated."""
    if x.rank != 4 or y.rank != 4:
        raise Skip("the operands are not of rank 4")
    heads = require_number(y.shape[1], "the number of heads")
    times = repeats(i, heads)
    if x.shape[1] != heads * times:
        raise Skip("the number of heads is not that of the other operand")
    if not same_dim(x.shape[0], y.shape[0]):
        raise Skip("the operands differ in batch")
    inner = require_number(x.shape[3], "the inner size")
    grouped = op.MatMul(op.Reshape(x, ints(0, heads, -1, inner)), y)
    columns = root.shape[3]
    if isinstance(columns, int):
        return op.Reshape(grouped, ints(0, heads * times, -1, columns))
    return op.Reshape(grouped, op.Concat(ints(0, heads * times, -1), op.Shape(y, start=3), axis=0))
