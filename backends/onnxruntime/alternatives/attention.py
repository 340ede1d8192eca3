"""MultiHeadAttention and GroupQueryAttention: what ONNX Runtime had before ONNX's own Attention.

They compute the same, with other kernels: MultiHeadAttention's goes block by block over long unmasked sequences,
GroupQueryAttention's skips what causality hides. Which is fastest depends on sizes, so prices decide. In 1.32's CPU
kernels a mask must have rank 4 and the full (length, length) at its end, a row of scores that are all -∞ gives NaN
(Attention: 0), one of lowest numbers their mean (Attention: 0); GroupQueryAttention is always causal, wants heads of a
multiple of eight, values as wide as keys and a sequence that is not empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import onnx_ir as ir

from ....compiler.egraph import ABSENT
from ....compiler.facts import Array, Dim
from ....compiler.rule import Expression, Skip, Term, Value, op, rule, var

q, k, v, m, a, b, c, n, p, at = var("q k v m a b c n p at")
MULTI_HEAD, GROUP_QUERY = "com.microsoft::MultiHeadAttention", "com.microsoft::GroupQueryAttention"
HEADS = {"q_num_heads": 2, "kv_num_heads": 2}
GROUPS = {"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1}
TWO_HEADS = {"q": "f32[2,5,6]", "k": "f32[2,7,6]", "v": "f32[2,7,6]"}
SQUARE = {"q": "f32[2,5,6]", "k": "f32[2,5,6]", "v": "f32[2,5,6]"}
READ = {"q_num_heads", "kv_num_heads", "is_causal", "scale", "softmax_precision", "qk_matmul_output_mode"}


def _require_kernel(*operands: Value) -> None:
    if len({o.dtype for o in operands}) > 1 or operands[0].dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise Skip("the kernel is for float32 and float16")
    if any(d == 0 for o in operands for d in o.shape):
        raise Skip("an operand is empty")


def _joined_heads(q: Value, k: Value, v: Value, at: Mapping[str, Any]) -> int:
    """How many heads, standing side by side in operands of rank 3, an Attention has."""
    if set(at) - READ:
        raise Skip("the Attention does more than these operators can")
    if {q.rank, k.rank, v.rank} != {3}:
        raise Skip("the heads are apart")
    return int(at["q_num_heads"])


def _open_rows(mask: Array) -> bool:
    """Whether an additive mask leaves every row an entry above the lowest number, so that kernels agree."""
    if mask.dtype.kind != "f" or mask.ndim < 2 or mask.size == 0:
        return False
    best = np.max(np.asarray(mask, dtype=np.float64), axis=-1)
    return bool(np.all(best > float(np.finfo(str(mask.dtype)).min)))


def _of_rank_four(mask: Value) -> Term:
    missing = np.arange(4 - mask.rank, dtype=np.int64)
    return op.Unsqueeze(mask, missing) if missing.size else mask


def _scale(at: Mapping[str, Any]) -> dict[str, float]:
    return {"scale": at["scale"]} if "scale" in at else {}


@rule(
    op.Attention(q, k, v, attributes=at),
    op.Attention(q, k, v, m, attributes=at),
    drift="rounding",
    phase="lower",
    peers="onnxscript, ORT transformers.optimizer",
    example=[
        TWO_HEADS | {"m": "f32[5,7] const", "at": HEADS | {"scale": 0.3}},
        SQUARE | {"m": "f32[2,1,5,5] const", "at": HEADS | {"is_causal": 1}},
        {"q": "f16[B,L,6]", "k": "f16[B,S,6]", "v": "f16[B,S,4]", "at": HEADS, "pattern": 0},
    ],
    refuse=[
        TWO_HEADS | {"m": "f32[5,7]", "at": HEADS, "pattern": 1, "because": "hide every key"},
        TWO_HEADS | {"at": HEADS | {"is_causal": 1}, "pattern": 0, "because": "as many"},
        TWO_HEADS
        | {"k": "f32[2,7,3]", "v": "f32[2,7,3]", "at": HEADS | {"kv_num_heads": 1}, "pattern": 0}
        | {"because": "grouped"},
        TWO_HEADS | {"at": HEADS | {"softcap": 2.0}, "pattern": 0, "because": "more than"},
        {"q": "f32[2,2,5,3]", "k": "f32[2,2,7,3]", "v": "f32[2,2,7,3]", "at": {}, "pattern": 0, "because": "apart"},
    ],
)
def multi_head_attention(q: Value, k: Value, v: Value, at: Mapping[str, Any], m: Value | None) -> Term:
    """Attention(q, k, v, m, heads) = MultiHeadAttention(q, k, v, attention_bias=m) without grouped heads."""
    _require_kernel(q, k, v)
    heads = _joined_heads(q, k, v, at)
    if at["kv_num_heads"] != heads:
        raise Skip("the heads are grouped")
    causal = {"unidirectional": 1} if at.get("is_causal") else {}
    if causal and (q.shape[1] != k.shape[1] or q.shape[1] is None):
        raise Skip("there are not known to be as many queries as keys")
    operands: tuple[Any, ...] = (q, k, v)
    if m is not None:
        if not m.every(_open_rows):
            raise Skip("a row of the mask may hide every key")
        operands = (q, k, v, None, None, _of_rank_four(m))
    return op(MULTI_HEAD)(*operands, num_heads=heads, **_scale(at), **causal)


@rule(
    op.Transpose(op.MatMul(op.Softmax(op.Add(op.MatMul(q, k), m), axis=a), v), perm=p),
    drift="rounding",
    phase="lower",
    example=[
        {
            "q": "f32[2,3,5,8]",
            "k": "f32[2,3,8,6]",
            "v": "f32[2,3,6,4]",
            "m": "f32[2,1,5,6]",
            "a": -1,
            "p": (0, 2, 1, 3),
        },
        {"q": "f16[B,3,L,8]", "k": "f16[B,3,8,S]", "v": "f16[B,3,S,8]", "m": "f16[L,S]", "a": 3, "p": (0, 2, 1, 3)},
        {"q": "f32[2,1,2,8]", "k": "f32[2,1,8,2]", "v": "f32[2,1,2,8]", "a": -1, "p": (0, 2, 1, 3)}
        | {"m": "f32[1,1,2,2] = 0 0 -3.4028234663852886e38 -3.4028234663852886e38"},
        {
            "q": "f32[2,3,5,8]",
            "k": "f32[2,3,8,6]",
            "v": "f32[2,3,6,4]",
            "m": "f32[2,1,1,6]",
            "a": -1,
            "p": (0, 2, 1, 3),
        },
    ],
    refuse=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[5,6]", "a": 2, "p": (0, 2, 1, 3)}
        | {"because": "not along"},
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[5,6]", "a": -1, "p": (0, 1, 3, 2)}
        | {"because": "join the heads"},
        {"q": "f32[2,3,5,8]", "k": "f32[1,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[5,6]", "a": -1, "p": (0, 2, 1, 3)}
        | {"because": "batch"},
        {"q": "f32[2,3,L,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[2,6]", "a": -1, "p": (0, 2, 1, 3)}
        | {"because": "mask"},
    ],
)
def multi_head_attention_any_mask(q: Value, k: Value, v: Value, m: Value, a: int, p: tuple[int, ...] | None) -> Term:
    """Transpose(softmax(q k + m) v, 0 2 1 3) = MultiHeadAttention(q', k', v', attention_bias=m), whatever m hides."""
    _require_kernel(q, k, v, m)
    if {q.rank, k.rank, v.rank} != {4} or p != (0, 2, 1, 3):
        raise Skip("the Transpose does not join the heads")
    if a not in (-1, 3):
        raise Skip("the softmax is not along the last axis")
    for place in range(2):
        if not _same(q.shape[place], k.shape[place]) or not _same(q.shape[place], v.shape[place]):
            raise Skip("the operands are not known to agree in batch and heads")
    heads, size = q.shape[1], v.shape[3]
    if not isinstance(heads, int) or not isinstance(size, int):
        raise Skip("the number or size of the heads is not known")
    keys = op.Transpose(k, perm=(0, 3, 1, 2))
    operands = (_joined(q, q.shape), _rows(keys, heads, k.shape[2]), _joined(v, v.shape), None, None, _full(m, q, k))
    result = op(MULTI_HEAD)(*operands, num_heads=heads, scale=1.0)
    return op.Reshape(result, _ints(0, 0, heads, size))


def _same(a: Dim, b: Dim) -> bool:
    return a is not None and a == b


def _ints(*numbers: int) -> Array:
    return np.asarray(numbers, dtype=np.int64)


def _rows(x: Expression, heads: int, size: Dim) -> Expression:
    """(batch, length, heads, size) → (batch, length, heads · size)."""
    if not isinstance(size, int):
        raise Skip("the number or size of the heads is not known")
    return op.Reshape(x, _ints(0, 0, heads * size))


def _joined(x: Value, shape: tuple[Dim, ...]) -> Expression:
    heads = shape[1] if isinstance(shape[1], int) else 0
    return _rows(op.Transpose(x, perm=(0, 2, 1, 3)), heads, shape[3])


def _full(m: Value, q: Value, k: Value) -> Term:
    """The mask with rank 4, and the length of queries and keys at its end."""
    scores = (q.shape[0], q.shape[1], q.shape[2], k.shape[3])
    padded = (1,) * (4 - m.rank) + m.shape
    if m.rank > 4 or any(d != 1 and not _same(d, s) for d, s in zip(padded, scores, strict=True)):
        raise Skip("the mask is not known to fit the scores")
    whole = _of_rank_four(m)
    if _same(padded[2], scores[2]) and _same(padded[3], scores[3]):
        return whole
    rows, keys = scores[2], scores[3]
    if isinstance(rows, int) and isinstance(keys, int):
        return op.Expand(whole, _ints(rows, keys))
    return op.Expand(whole, op.Concat(op.Shape(q, start=2, end=3), op.Shape(k, start=3), axis=0))


@rule(
    op(MULTI_HEAD)(op.Mul(q, c), k, v, b, n, m, attributes=at),
    drift="rounding",
    phase="lower",
    example=[
        TWO_HEADS
        | {"m": "f32[2,1,5,7]", "c": "f32[] = 0.3", "b": None, "n": None, "at": {"num_heads": 2, "scale": 1.0}},
        {"q": "f16[2,5,6]", "k": "f16[2,7,6]", "v": "f16[2,7,6]", "m": "f16[1,2,5,7]", "c": "f16[1] = 2", "b": None}
        | {"n": None, "at": {"num_heads": 2}},
    ],
    refuse=[
        TWO_HEADS
        | {"m": "f32[2,1,5,7]", "c": "f32[] = -1", "b": None, "n": None, "at": {"num_heads": 2}}
        | {"because": "not a positive number"},
        TWO_HEADS
        | {"m": "f32[2,1,5,7]", "c": "f32[6] = 1 2", "b": None, "n": None, "at": {"num_heads": 2}}
        | {"because": "not a positive number"},
        TWO_HEADS
        | {"m": "f32[2,1,5,7]", "c": "f32[] = 2", "b": "f32[18]", "n": None, "at": {"num_heads": 2}}
        | {"because": "bias"},
    ],
)
def multi_head_scale(
    q: Value, k: Value, v: Value, b: Value, n: Value, m: Value, c: Value, at: Mapping[str, Any]
) -> Term:
    """MultiHeadAttention(q·c, k, v, scale) = MultiHeadAttention(q, k, v, scale·c)."""
    if b.uid != ABSENT or n.uid != ABSENT:
        raise Skip("a bias is added to the queries, or keys are hidden one by one")
    if c.size != 1 or c.rank > 3 or c.scalar <= 0 or q.rank != 3:
        raise Skip("the factor is not a positive number")
    size = q.shape[2]
    if not isinstance(size, int):
        raise Skip("the size of the heads is not known")
    scale = at.get("scale") or 1 / sqrt(size // at["num_heads"])
    return op(MULTI_HEAD)(q, k, v, None, None, m, **(dict(at) | {"scale": float(np.float32(scale * c.scalar))}))


@rule(
    op.Attention(q, k, v, attributes=at),
    drift="rounding",
    phase="lower",
    peers="onnxscript, onnxsim",
    example=[
        {"q": "f32[2,5,32]", "k": "f32[2,5,16]", "v": "f32[2,5,16]", "at": GROUPS | {"scale": 0.3}},
        {"q": "f16[1,3,32]", "k": "f16[1,3,16]", "v": "f16[1,3,16]", "at": GROUPS},
        {"q": "f32[B,L,32]", "k": "f32[B,L,16]", "v": "f32[B,L,16]", "at": GROUPS},
        {"q": "f32[2,L,32]", "k": "f32[2,L,16]", "v": "f32[2,L,16]", "at": GROUPS},
    ],
    refuse=[
        {"q": "f32[2,5,32]", "k": "f32[2,7,16]", "v": "f32[2,7,16]", "at": GROUPS, "because": "as many"},
        {"q": "f32[B,L,32]", "k": "f32[B,S,16]", "v": "f32[B,S,16]", "at": GROUPS, "because": "as many"},
        {"q": "f32[B,L,32]", "k": "f32[C,L,16]", "v": "f32[B,L,16]", "at": GROUPS, "because": "batch"},
        {"q": "f32[2,5,16]", "k": "f32[2,5,8]", "v": "f32[2,5,8]", "at": GROUPS, "because": "multiple of eight"},
        {"q": "f32[2,5,32]", "k": "f32[2,5,16]", "v": "f32[2,5,8]", "at": GROUPS, "because": "as wide"},
        {"q": "f32[2,5,32]", "k": "f32[2,5,16]", "v": "f32[2,5,16]", "at": GROUPS | {"is_causal": 0}}
        | {"because": "not causal"},
    ],
)
def group_query_attention(q: Value, k: Value, v: Value, at: Mapping[str, Any]) -> Term:
    """Attention(q, k, v, heads, is_causal) = GroupQueryAttention(q, k, v) without past."""
    _require_kernel(q, k, v)
    heads = _joined_heads(q, k, v, at)
    if not at.get("is_causal"):
        raise Skip("the Attention is not causal")
    if not all(_same(q.shape[1], other.shape[1]) for other in (k, v)):
        raise Skip("there are not as many queries as keys")
    if not all(_same(q.shape[0], other.shape[0]) for other in (k, v)):
        raise Skip("the operands are not known to agree in batch")
    width = q.shape[2]
    if not isinstance(width, int) or width // heads % 8:
        raise Skip("the size of a head is not a multiple of eight")
    if k.shape[2] != v.shape[2]:
        raise Skip("the values are not as wide as the keys")
    operands = (q, k, v, None, None, *_lengths(q))
    return op(GROUP_QUERY)(*operands, num_heads=heads, kv_num_heads=at["kv_num_heads"], **_scale(at))


def _lengths(q: Value) -> tuple[Term | Array, Term | Array]:
    """The last position of every sequence, and how many positions there are."""
    batch, length = q.shape[0], q.shape[1]
    if isinstance(batch, int) and isinstance(length, int):
        return np.full(batch, length - 1, np.int32), np.asarray(length, np.int32)
    count = op.Cast(op.Shape(q, start=1, end=2), to=int(ir.DataType.INT32))
    return op.Expand(op.Sub(count, np.ones(1, np.int32)), op.Shape(q, start=0, end=1)), count
