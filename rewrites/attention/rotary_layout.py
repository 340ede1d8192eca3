"""RotaryEmbedding takes in what stands around it: unrotated rests of heads, and the Transposes that split heads.

ONNX's RotaryEmbedding leaves the end of each head alone when told how much to rotate, and reads and writes
(batch, length, heads · size) when told the number of heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import ints, permutation
from .operands import require_last, require_number

x, y, c, s, p, i, at, e, n = var("x y c s p i at e n")
s0, e0, a0, t0, s1, e1, a1, t1, sizes, axis = var("s0 e0 a0 t0 s1 e1 a1 t1 sizes axis")
start, rest = op.Slice(x, s0, e0, a0), op.Slice(x, s1, e1, a1)
start_by, rest_by = op.Slice(x, s0, e0, a0, t0), op.Slice(x, s1, e1, a1, t1)
split, split_by_count = op.Split(x, sizes, axis=axis, outputs=2), op.Split(x, axis=axis, num_outputs=n, outputs=2)
PARTIAL = {
    "x": "f32[2,3,5,10]",
    "c": "f32[2,5,2]",
    "s": "f32[2,5,2]",
    "at": {},
    "e": -1,
    "s0": "i64[1] = 0",
    "e0": "i64[1] = 4",
    "a0": "i64[1] = 3",
    "t0": "i64[1] = 1",
    "s1": "i64[1] = 4",
    "e1": "i64[1] = 9223372036854775807",
    "a1": "i64[1] = -1",
    "t1": "i64[1] = 1",
}


@rule(
    op.Concat(op.RotaryEmbedding(start, c, s, attributes=at), rest, axis=e),
    op.Concat(op.RotaryEmbedding(start_by, c, s, attributes=at), rest_by, axis=e),
    op.Concat(op.RotaryEmbedding(start, c, s, i, attributes=at), rest, axis=e),
    op.Concat(op.RotaryEmbedding(start_by, c, s, i, attributes=at), rest_by, axis=e),
    drift="rounding",
    peers="onnxscript (com.microsoft)",
    example=[
        PARTIAL | {"pattern": 0},
        PARTIAL | {"at": {"interleaved": 1}, "pattern": 1},
        PARTIAL | {"c": "f32[7,2]", "s": "f32[7,2]", "i": "i64[2,5] = 0 1 2 3 4", "pattern": 2},
        PARTIAL | {"x": "f16[2,3,5,10]", "c": "f16[7,2]", "s": "f16[7,2]", "i": "i64[2,5] = 0 1 2 3 4", "pattern": 3},
    ],
    refuse=[
        PARTIAL | {"s1": "i64[1] = 5", "pattern": 0, "because": "rest"},
        PARTIAL | {"s0": "i64[1] = 1", "e0": "i64[1] = 5", "pattern": 1, "because": "start"},
        PARTIAL | {"e": 1, "x": "f32[2,3,5,8]", "pattern": 1, "because": "last"},
        PARTIAL | {"t0": "i64[1] = 2", "e0": "i64[1] = 8", "pattern": 1, "because": "step"},
    ],
)
def partial_rotary(
    x: Value,
    c: Value,
    s: Value,
    s0: Value,
    e0: Value,
    a0: Value,
    s1: Value,
    e1: Value,
    a1: Value,
    e: int,
    at: Mapping[str, Any],
    i: Value | None,
    t0: Value | None,
    t1: Value | None,
) -> Term:
    """Concat(RotaryEmbedding(x[:r]), x[r:]) = RotaryEmbedding(x, rotary_embedding_dim=r)."""
    if any(step is not None and step.array.reshape(-1).tolist() != [1] for step in (t0, t1)):
        raise Skip("a slice has a step")
    starts, ends = (_last_slice(x, a, b, d) for a, b, d in ((s0, e0, a0), (s1, e1, a1)))
    width = require_number(x.shape[-1], "the width of a head")
    if starts[0] != 0:
        raise Skip("the rotated part does not start where the head does")
    if ends != (starts[1], width):
        raise Skip("the other part is not the rest of the head")
    return _partly(x, c, s, i, starts[1], e, at)


def _last_slice(x: Value, start: Value, end: Value, axes: Value) -> tuple[int, int]:
    numbers = [v.array.reshape(-1).tolist() for v in (start, end, axes)]
    if any(len(n) != 1 for n in numbers):
        raise Skip("several axes are sliced")
    require_last(numbers[2][0], x.rank)
    width = require_number(x.shape[-1], "the width of a head")
    first, stop, _ = slice(numbers[0][0], numbers[1][0]).indices(width)
    return first, stop


def _partly(x: Value, c: Value, s: Value, i: Value | None, width: int, e: int, at: Mapping[str, Any]) -> Term:
    require_last(e, x.rank)
    if x.rank != 4 or "rotary_embedding_dim" in at:
        raise Skip("heads are joined, or rotated in part already")
    operands = (x, c, s) if i is None else (x, c, s, i)
    return op.RotaryEmbedding(*operands, **(dict(at) | {"rotary_embedding_dim": width}))


@rule(
    op.Concat(op.RotaryEmbedding(split.out(0), c, s, attributes=at), split.out(1), axis=e),
    op.Concat(op.RotaryEmbedding(split_by_count.out(0), c, s, attributes=at), split_by_count.out(1), axis=e),
    op.Concat(op.RotaryEmbedding(split.out(0), c, s, i, attributes=at), split.out(1), axis=e),
    op.Concat(op.RotaryEmbedding(split_by_count.out(0), c, s, i, attributes=at), split_by_count.out(1), axis=e),
    drift="rounding",
    example=[
        PARTIAL | {"sizes": "i64[2] = 4 6", "axis": 3, "pattern": 0},
        PARTIAL | {"x": "f32[2,3,5,8]", "axis": -1, "n": 2, "pattern": 1},
        PARTIAL
        | {
            "c": "f32[7,2]",
            "s": "f32[7,2]",
            "i": "i64[2,5] = 0 1 2 3 4",
            "sizes": "i64[2] = 4 6",
            "axis": 3,
            "pattern": 2,
        },
        PARTIAL
        | {"x": "f16[2,3,5,8]", "c": "f16[7,2]", "s": "f16[7,2]", "i": "i64[2,5] = 0 1 2 3 4", "axis": -1, "n": 2}
        | {"pattern": 3},
    ],
    refuse=PARTIAL
    | {"x": "f32[2,3,10,4]", "c": "f32[2,5,2]", "s": "f32[2,5,2]", "axis": 2, "n": 2, "e": 2, "pattern": 1}
    | {"because": "last"},
)
def partial_rotary_of_split(
    x: Value,
    c: Value,
    s: Value,
    axis: int,
    e: int,
    at: Mapping[str, Any],
    i: Value | None,
    sizes: Value | None,
    n: int | None,
) -> Term:
    """Concat(RotaryEmbedding(first part), second part) of a Split = RotaryEmbedding(x, rotary_embedding_dim=r)."""
    require_last(axis, x.rank)
    width = require_number(x.shape[-1], "the width of a head")
    return _partly(x, c, s, i, int(sizes.array[0]) if sizes is not None else -(-width // 2), e, at)


@rule(
    op.RotaryEmbedding(op.Transpose(x, perm=p), c, s, attributes=at),
    op.RotaryEmbedding(op.Transpose(x, perm=p), c, s, i, attributes=at),
    drift="rounding",
    example=[
        {"x": "f32[2,5,3,8]", "p": (0, 2, 1, 3), "c": "f32[2,5,4]", "s": "f32[2,5,4]", "at": {}, "pattern": 0},
        {
            "x": "f32[2,5,3,8]",
            "p": (0, 2, 1, 3),
            "c": "f32[9,2]",
            "s": "f32[9,2]",
            "i": "i64[2,5] = 0 1 2 3 4",
            "pattern": 1,
        }
        | {"at": {"rotary_embedding_dim": 4, "interleaved": 1}},
        {"x": "f16[B,L,3,8]", "p": (0, 2, 1, 3), "c": "f16[B,L,4]", "s": "f16[B,L,4]", "at": {}, "pattern": 0},
    ],
    refuse=[
        {"x": "f32[2,5,3,8]", "p": (1, 2, 0, 3), "c": "f32[5,2,4]", "s": "f32[5,2,4]", "at": {}, "pattern": 0}
        | {"because": "split the heads"},
        {"x": "f32[2,5,H,8]", "p": (0, 2, 1, 3), "c": "f32[2,5,4]", "s": "f32[2,5,4]", "at": {}, "pattern": 0}
        | {"because": "number of heads"},
    ],
)
def rotary_joins_heads(
    x: Value, p: tuple[int, ...] | None, c: Value, s: Value, at: Mapping[str, Any], i: Value | None
) -> Term:
    """RotaryEmbedding(Transpose(x, 0 2 1 3)) = Transpose(RotaryEmbedding(x with joined heads), 0 2 1 3)."""
    return rotated_together("RotaryEmbedding", x, p, (c, s, *(() if i is None else (i,))), at)


def rotated_together(
    name: str, x: Value, p: tuple[int, ...] | None, others: tuple[Value, ...], at: Mapping[str, Any]
) -> Term:
    """What a RotaryEmbedding of this name makes of Transpose(x), its heads joined while it rotates.

    Raises:
        Skip: the Transpose does not split heads, or their number or size is not known.
    """
    if x.rank != 4 or permutation(p, 4) != (0, 2, 1, 3):
        raise Skip("the Transpose does not split the heads")
    heads = require_number(x.shape[2], "the number of heads")
    size = require_number(x.shape[3], "the size of a head")
    joined = op.Reshape(x, ints(0, 0, heads * size))
    together = op(name)(joined, *others, **(dict(at) | {"num_heads": heads}))
    return op.Transpose(op.Reshape(together, ints(0, 0, heads, size)), perm=(0, 2, 1, 3))
