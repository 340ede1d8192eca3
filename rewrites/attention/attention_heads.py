"""Attention takes in what stands around it: repeated heads, and the Transposes that split and join them.

ONNX's Attention groups heads by itself when keys and values have fewer, and reads and writes
(batch, length, heads · size) when told the number of heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from ..shape.axes import ints, permutation
from .operands import require_number
from .repeated_heads import repeats

q, k, v, m, i, j, p, at = var("q k v m i j p at")
REPEATED = {"q": "f32[2,6,5,8]", "k": "f32[2,3,7,8]", "v": "f32[2,3,7,4]", "m": "f32[5,7]", "at": {"scale": 0.5}}
TWICE = "i64[6] = 0 0 1 1 2 2"


@rule(
    op.Attention(q, op.Gather(k, i, axis=1), op.Gather(v, j, axis=1), attributes=at),
    op.Attention(q, op.Gather(k, i, axis=1), op.Gather(v, j, axis=1), m, attributes=at),
    drift="rounding",
    peers="onnxscript (com.microsoft), onnxsim",
    example=[
        REPEATED | {"i": TWICE, "j": TWICE},
        {"q": "f16[B,4,L,8]", "k": "f16[B,1,S,8]", "v": "f16[B,1,S,8]", "i": "i64[4] = 0", "j": "i64[4] = 0"}
        | {"at": {"is_causal": 1}, "pattern": 0},
    ],
    refuse=[
        REPEATED | {"i": TWICE, "j": "i64[6] = 0 1 2 0 1 2", "because": "differ"},
        REPEATED | {"i": "i64[6] = 0 1 2 0 1 2", "j": "i64[6] = 0 1 2 0 1 2", "because": "in a row"},
    ],
)
def attention_of_groups(
    q: Value, k: Value, v: Value, i: Value, j: Value, at: Mapping[str, Any], m: Value | None
) -> Term:
    """Attention(q, Gather(k, 0 0 1 1 …), Gather(v, 0 0 1 1 …)) = Attention(q, k, v), which groups heads itself."""
    if k.rank != 4 or not np.array_equal(i.array, j.array):
        raise Skip("keys and values differ in how they are repeated")
    repeats(i, require_number(k.shape[1], "the number of heads"))
    operands = (q, k, v) if m is None else (q, k, v, m)
    return op.Attention(*operands, **at)


@rule(
    op.Transpose(op.Attention(q, k, v, attributes=at), perm=p),
    op.Transpose(op.Attention(q, k, v, m, attributes=at), perm=p),
    drift="rounding",
    example=[
        REPEATED | {"p": (0, 2, 1, 3)},
        REPEATED | {"p": (2, 0, 1, 3)},
        {"q": "f16[B,4,L,8]", "k": "f16[B,2,S,8]", "v": "f16[B,2,S,8]", "at": {}, "p": (0, 2, 1, 3), "pattern": 0},
    ],
    refuse=[
        REPEATED | {"p": (0, 1, 3, 2), "because": "join the heads"},
        REPEATED | {"q": "f32[2,H,5,8]", "p": (0, 2, 1, 3), "because": "number of heads"},
        {"q": "f32[2,4,6]", "k": "f32[2,4,6]", "v": "f32[2,4,6]", "p": (0, 2, 1), "pattern": 0, "because": "already"}
        | {"at": {"q_num_heads": 2, "kv_num_heads": 2}},
    ],
)
def attention_joins_heads(
    q: Value, k: Value, v: Value, p: tuple[int, ...] | None, at: Mapping[str, Any], m: Value | None
) -> Term:
    """Transpose(Attention(q, k, v), 0 2 1 3) = Reshape(Attention(q', k', v', heads)), each Transposed alike.

    The Transposes that split the heads of queries, keys and values usually stand right before, and cancel.
    """
    if q.rank != 4:
        raise Skip("the heads are joined already")
    perm = permutation(p, 4)
    if perm.index(3) != 3 or perm.index(2) > perm.index(1):
        raise Skip("the Transpose does not join the heads")
    heads = require_number(q.shape[1], "the number of heads")
    groups = require_number(k.shape[1], "the number of heads")
    size = require_number(v.shape[3], "the size of a head")
    operands: list[Term] = [joined(q), joined(k), joined(v)]
    if m is not None:
        operands.append(m)
    result = op.Attention(*operands, **(dict(at) | {"q_num_heads": heads, "kv_num_heads": groups}))
    split = op.Reshape(result, ints(0, 0, heads, size))
    rest = tuple((0, 2, 1, 3).index(axis) for axis in perm)
    return split if rest == (0, 1, 2, 3) else op.Transpose(split, perm=rest)


def joined(x: Value) -> Expression:
    """(batch, heads, length, size) → (batch, length, heads · size).

    Raises:
        Skip: the number or size of the heads is not known.
    """
    width = require_number(x.shape[1], "the number of heads") * require_number(x.shape[3], "the size of a head")
    return op.Reshape(op.Transpose(x, perm=(0, 2, 1, 3)), ints(0, 0, width))
