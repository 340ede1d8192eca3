"""The swap in rotary position embedding: halves or neighbours of each head change places, one of them negated.

Exporters write it as Slices (or a Split) and a Concat, with the Neg inside. Its canonical form here is one Gather along
the last axis, the sign going to the table of sines: `rotary_embedding.py` finds it there. As a program it is slower
than a Concat, and so never chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from .operands import require_last, require_number
from .rotary_tables import is_interleaved

x, a, b, s, r, u, w, e, z = var("x a b s r u w e z")
s0, e0, a0, t0, s1, e1, a1, t1, sizes, axis, n = var("s0 e0 a0 t0 s1 e1 a1 t1 sizes axis n")
END = "i64[1] = 9223372036854775807"
HALVES = {"s0": "i64[1] = 4", "e0": END, "s1": "i64[1] = 0", "e1": "i64[1] = 4", "e": -1}
ONES = {"t0": "i64[1] = 1", "t1": "i64[1] = 1"}
LAST = {"a0": "i64[1] = 2", "a1": "i64[1] = -1"}


@rule(
    op.Mul(op.Concat(op.Neg(a), b, axis=e), s),
    drift="none",
    example=[
        {"a": "f32[2,3,4]", "b": "f32[2,3,4]", "s": "f32[3,8] const", "e": -1},
        {"a": "f16[2,L,4]", "b": "f16[2,L,3]", "s": "f16[2,L,7]", "e": 2},
    ],
    refuse=[
        {"a": "f32[2,4]", "b": "f32[2,4]", "s": "f32[8]", "e": 0, "because": "not the last"},
        {"a": "f32[2,4]", "b": "f32[2,4]", "s": "f32[1]", "e": 1, "because": "as wide"},
        {"a": "i64[2,4]", "b": "i64[2,4]", "s": "i64[8]", "e": 1, "because": "floating"},
        {"a": "f32[2,4]", "b": "f32[2,N]", "s": "f32[8]", "e": 1, "because": "not known"},
    ],
)
def negation_of_half(a: Value, b: Value, s: Value, e: int) -> Term:
    """Concat(-a, b)·s = Concat(a, b)·(s·[-1 … 1 …])."""
    require_last(e, a.rank)
    first, second = require_number(a.shape[-1], "a width"), require_number(b.shape[-1], "a width")
    return op.Mul(op.Concat(a, b, axis=-1), _signed(s, np.repeat([-1, 1], [first, second])))


def _signed(table: Value, signs: Array) -> Expression:
    if table.dtype is None or not ir.DataType(table.dtype).is_floating_point():
        raise Skip("the operands are not of a floating-point type")
    if table.rank == 0 or table.shape[-1] != signs.size:
        raise Skip("the factor is not as wide as what it is multiplied with")
    return op.Mul(table, signs.astype(ir.DataType(table.dtype).numpy()))


@rule(
    op.Mul(op.Reshape(op.Concat(op.Unsqueeze(op.Neg(a), u), op.Unsqueeze(b, w), axis=e), r, attributes=z), s),
    drift="none",
    example=[
        {"a": "f32[2,3,4]", "b": "f32[2,3,4]", "s": "f32[3,8] const", "r": "i64[3] = 2 3 8"}
        | {"u": "i64[1] = 3", "w": "i64[1] = -1", "e": -1, "z": {"allowzero": 1}},
        {"a": "f16[B,4]", "b": "f16[B,4]", "s": "f16[B,8]", "r": "i64[2] = 0 8", "u": "i64[1] = 2", "w": "i64[1] = 2"}
        | {"e": 2, "z": {}},
    ],
    refuse=[
        {"a": "f32[2,4]", "b": "f32[2,4]", "s": "f32[8]", "r": "i64[2] = 2 8", "u": "i64[1] = 1", "w": "i64[1] = 1"}
        | {"e": 1, "z": {}, "because": "not the last"},
        {"a": "f32[2,4]", "b": "f32[2,4]", "s": "f32[4,4]", "r": "i64[2] = 4 4", "u": "i64[1] = 2", "w": "i64[1] = 2"}
        | {"e": 2, "z": {}, "because": "side by side"},
    ],
)
def negation_of_neighbour(
    a: Value, b: Value, s: Value, r: Value, u: Value, w: Value, e: int, z: Mapping[str, Any], root: Value
) -> Term:
    """Stack(-a, b)·s = Stack(a, b)·(s·[-1 1 -1 1 …]) where the stack's last axis is merged."""
    stack = stacked(a, b, u, w, e, r, z)
    size = require_number(a.shape[-1], "a width")
    if root.rank != a.rank or root.shape[-1] != 2 * size:
        raise Skip("the pairs do not stand side by side in the result")
    return op.Mul(stack, _signed(s, np.tile([-1, 1], size)))


def stacked(a: Value, b: Value, u: Value, w: Value, e: int, r: Value, z: Mapping[str, Any]) -> Expression:
    """Two tensors stacked along a new last axis, which a Reshape then merges with the one before.

    Raises:
        Skip: the new axis is not the last.
    """
    for axes in (u, w):
        if axes.array.size != 1:
            raise Skip("more than one axis is new")
        require_last(int(axes.array.reshape(-1)[0]), a.rank + 1)
    require_last(e, a.rank + 1)
    return op.Reshape(op.Concat(op.Unsqueeze(a, u), op.Unsqueeze(b, w), axis=e), r, **z)


@rule(
    op.Concat(op.Slice(x, s0, e0, a0), op.Slice(x, s1, e1, a1), axis=e),
    op.Concat(op.Slice(x, s0, e0, a0, t0), op.Slice(x, s1, e1, a1, t1), axis=e),
    drift="none",
    example=[
        {"x": "f32[2,3,8]"} | HALVES | LAST | ONES,
        {"x": "f16[B,L,8]"} | HALVES | LAST | ONES,
    ],
    refuse=[
        {"x": "f32[2,3,8]"} | HALVES | LAST | ONES | {"s0": "i64[1] = 3", "because": "change places"},
        {"x": "f32[2,8,3]"} | HALVES | ONES | {"a0": "i64[1] = 1", "a1": "i64[1] = 1", "e": 1, "because": "last"},
        {"x": "f32[2,3,N]"} | HALVES | LAST | ONES | {"because": "not known"},
    ],
)
def swap_of_halves(
    x: Value,
    s0: Value,
    e0: Value,
    a0: Value,
    s1: Value,
    e1: Value,
    a1: Value,
    e: int,
    t0: Value | None,
    t1: Value | None,
) -> Term:
    """Concat(x[h:], x[:h]) = Gather(x, h … 2h-1 0 … h-1)."""
    require_last(e, x.rank)
    return swapped(x, np.concatenate([_places(x, s0, e0, a0, t0), _places(x, s1, e1, a1, t1)]))


def _places(x: Value, start: Value, end: Value, axes: Value, step: Value | None) -> Array:
    """Which entries of the last axis a Slice takes."""
    numbers = [int(v.array.reshape(-1)[0]) for v in (start, end, axes) if v.array.size == 1]
    if len(numbers) < 3:
        raise Skip("several axes are sliced")
    require_last(numbers[2], x.rank)
    size = require_number(x.shape[-1], "a width")
    stride = 1 if step is None else int(step.array.reshape(-1)[0])
    if stride < 1:
        raise Skip("a slice runs backwards")
    return np.arange(size, dtype=np.int64)[numbers[0] : numbers[1] : stride]


def swapped(x: Value, index: Array) -> Expression:
    """The Gather that swaps.

    Raises:
        Skip: the index swaps neither halves nor neighbours.
    """
    is_interleaved(index, require_number(x.shape[-1], "a width"))
    return op.Gather(x, index, axis=x.rank - 1)


split, split_by_count = op.Split(x, sizes, axis=axis, outputs=2), op.Split(x, axis=axis, num_outputs=n, outputs=2)


@rule(
    op.Concat(split.out(1), split.out(0), axis=e),
    op.Concat(split_by_count.out(1), split_by_count.out(0), axis=e),
    drift="none",
    example=[
        {"x": "f32[2,3,8]", "sizes": "i64[2] = 4 4", "axis": 2, "e": -1, "n": 2},
        {"x": "f16[B,L,8]", "sizes": "i64[2] = 4 4", "axis": -1, "e": 2, "n": 2},
    ],
    refuse=[
        {"x": "f32[2,3,8]", "sizes": "i64[2] = 3 5", "axis": 2, "e": -1, "pattern": 0, "because": "change places"},
        {"x": "f32[2,4,6]", "sizes": "i64[2] = 2 2", "axis": 1, "e": 1, "n": 2, "because": "not the last"},
    ],
)
def swap_of_split(x: Value, axis: int, e: int, sizes: Value | None, n: int | None) -> Term:
    """Concat of both halves of a Split in the other order = Gather(x, h … 2h-1 0 … h-1)."""
    require_last(e, x.rank)
    require_last(axis, x.rank)
    width = require_number(x.shape[-1], "a width")
    first = int(sizes.array[0]) if sizes is not None else -(-width // 2)
    return swapped(x, np.roll(np.arange(width, dtype=np.int64), -first))


@rule(
    op.Reshape(
        op.Concat(op.Unsqueeze(op.Slice(x, s0, e0, a0, t0), u), op.Unsqueeze(op.Slice(x, s1, e1, a1, t1), w), axis=e),
        r,
        attributes=z,
    ),
    drift="none",
    example=[
        {"x": "f32[2,3,8]", "s0": "i64[1] = 1", "e0": END, "s1": "i64[1] = 0", "e1": END, "e": -1}
        | LAST
        | {"t0": "i64[1] = 2", "t1": "i64[1] = 2", "u": "i64[1] = 3", "w": "i64[1] = -1", "r": "i64[3] = 2 3 8"}
        | {"z": {"allowzero": 1}},
        {"x": "f16[2,3,8]", "s0": "i64[1] = 0", "e0": END, "s1": "i64[1] = 1", "e1": END, "e": 3}
        | LAST
        | {
            "t0": "i64[1] = 2",
            "t1": "i64[1] = 2",
            "u": "i64[1] = 3",
            "w": "i64[1] = -1",
            "r": "i64[3] = 2 3 8",
            "z": {},
        },
    ],
    refuse={"x": "f32[2,3,8]", "s0": "i64[1] = 1", "e0": END, "s1": "i64[1] = 0", "e1": "i64[1] = 7", "e": -1}
    | LAST
    | {"t0": "i64[1] = 2", "t1": "i64[1] = 2", "u": "i64[1] = 3", "w": "i64[1] = -1", "r": "i64[2] = 6 8"}
    | {"z": {}, "because": "shape"},
)
def swap_of_neighbours(
    x: Value,
    s0: Value,
    e0: Value,
    a0: Value,
    t0: Value,
    s1: Value,
    e1: Value,
    a1: Value,
    t1: Value,
    u: Value,
    w: Value,
    e: int,
    root: Value,
) -> Term:
    """Stack(x[1::2], x[0::2]) merged = Gather(x, 1 0 3 2 …), and Stack(x[0::2], x[1::2]) merged = x."""
    for axes in (u, w):
        require_last(int(axes.array.reshape(-1)[0]), x.rank + 1)
    require_last(e, x.rank + 1)
    if root.shape != x.shape:
        raise Skip("the pairs are not put back into the same shape")
    index = np.stack([_places(x, s0, e0, a0, t0), _places(x, s1, e1, a1, t1)], axis=-1).reshape(-1)
    if np.array_equal(index, np.arange(index.size)):
        return x
    return swapped(x, index)
