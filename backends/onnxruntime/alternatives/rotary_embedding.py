"""ONNX Runtime's own RotaryEmbedding: the same as ONNX's, but one table may serve all rows of a batch.

1.32 has CPU kernels for float32 and float16. Its position_ids may be one offset for all rows; its attribute `scale` is
ignored on the CPU; a partly rotated head wants `num_heads` said even in rank 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.rule import Skip, Term, Value, op, rule, var
from ....rewrites.attention.rotary_layout import rotated_together

x, c, s, i, e, at, p = var("x c s i e at p")
ROTARY = "com.microsoft::RotaryEmbedding"
READ = {"interleaved", "num_heads", "rotary_embedding_dim"}


def _rotary(x: Value, positions: Value | Array, cos: Term, sin: Term, at: Mapping[str, Any]) -> Term:
    if x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise Skip("the kernel is for float32 and float16")
    if any(d == 0 for d in x.shape):
        raise Skip("what is rotated is empty")
    if set(at) - READ:
        raise Skip("the RotaryEmbedding does more than this operator can")
    attributes = dict(at)
    if x.rank == 4 and "rotary_embedding_dim" in at:
        heads = x.shape[1]
        if not isinstance(heads, int):
            raise Skip("the number of heads is not known")
        attributes["num_heads"] = heads
    return op(ROTARY)(x, positions, cos, sin, **attributes)


def _zero() -> Array:
    return np.zeros(1, dtype=np.int64)


@rule(
    op.RotaryEmbedding(x, c, s, i, attributes=at),
    drift="rounding",
    phase="lower",
    peers="onnxscript",
    example=[
        {"x": "f32[2,3,5,8]", "c": "f32[9,4]", "s": "f32[9,4]", "i": "i64[2,5] = 0 1 2 3 4 4 5 6 7 8", "at": {}},
        {"x": "f16[2,5,24]", "c": "f16[5,2]", "s": "f16[5,2]", "i": "i64[2,5] = 0 1 2 3 4"}
        | {"at": {"num_heads": 3, "rotary_embedding_dim": 4, "interleaved": 1}},
        {"x": "f32[2,3,5,8]", "c": "f32[5,2]", "s": "f32[5,2]", "i": "i64[2,5] = 0 1 2 3 4"}
        | {"at": {"rotary_embedding_dim": 4}},
    ],
    refuse={"x": "f32[2,0,5,8]", "c": "f32[9,4]", "s": "f32[9,4]", "i": "i64[2,5] = 0", "at": {}, "because": "empty"},
)
def rotary_embedding_by_position(x: Value, c: Value, s: Value, i: Value, at: Mapping[str, Any]) -> Term:
    """RotaryEmbedding(x, c, s, positions) in ONNX = the same in com.microsoft; positions 0 1 2 … are an offset of 0."""

    def counts(positions: Array) -> bool:
        return positions.ndim == 2 and bool(np.all(positions == np.arange(positions.shape[-1])))

    return _rotary(x, _zero() if i.every(counts) else i, c, s, at)


@rule(
    op.RotaryEmbedding(x, c, s, attributes=at),
    drift="rounding",
    phase="lower",
    peers="onnxscript",
    example=[
        {"x": "f32[1,3,5,8]", "c": "f32[1,5,4]", "s": "f32[1,5,4]", "at": {"interleaved": 1}},
        {"x": "f16[1,L,24]", "c": "f16[1,L,4]", "s": "f16[1,L,4]", "at": {"num_heads": 3}},
    ],
    refuse={"x": "f32[2,3,5,8]", "c": "f32[2,5,4]", "s": "f32[2,5,4]", "at": {}, "because": "differ"},
)
def rotary_embedding_of_one(x: Value, c: Value, s: Value, at: Mapping[str, Any]) -> Term:
    """RotaryEmbedding(x, c, s) in ONNX = the same in com.microsoft at offset 0, for a batch of one."""
    if c.shape[0] != 1 or s.shape[0] != 1:
        raise Skip("the tables may differ between the rows of the batch")
    return _rotary(x, _zero(), op.Squeeze(c, _zero()), op.Squeeze(s, _zero()), at)


@rule(
    op.RotaryEmbedding(x, op.Expand(c, e), op.Expand(s, e), attributes=at),
    drift="rounding",
    phase="lower",
    example=[
        {"x": "f32[2,3,5,8]", "c": "f32[1,5,4]", "s": "f32[1,5,4]", "e": "i64[3] = 2 1 1", "at": {}},
        {"x": "f16[2,L,24]", "c": "f16[1,L,4]", "s": "f16[1,L,4]", "e": "i64[3] = 2 1 1", "at": {"num_heads": 3}},
    ],
    refuse=[
        {"x": "f32[2,3,5,8]", "c": "f32[2,5,4]", "s": "f32[2,5,4]", "e": "i64[3] = 2 1 1", "at": {}}
        | {"because": "differ"},
        {"x": "f32[1,3,5,8]", "c": "f32[1,1,4]", "s": "f32[1,1,4]", "e": "i64[3] = 1 5 1", "at": {}}
        | {"because": "as long"},
    ],
)
def rotary_embedding_of_all(x: Value, c: Value, s: Value, at: Mapping[str, Any]) -> Term:
    """RotaryEmbedding(x, Expand(c), Expand(s)) in ONNX = com.microsoft's at offset 0, which shares the tables."""
    if c.rank != 3 or s.rank != 3 or c.shape[0] != 1 or s.shape[0] != 1:
        raise Skip("the tables may differ between the rows of the batch")
    length = x.shape[1] if x.rank == 3 else x.shape[2]
    if length is None or c.shape[1] != length or s.shape[1] != length:
        raise Skip("the tables are not known to be as long as what is rotated")
    return _rotary(x, _zero(), op.Squeeze(c, _zero()), op.Squeeze(s, _zero()), at)


@rule(
    op(ROTARY)(op.Transpose(x, perm=p), i, c, s, attributes=at),
    drift="rounding",
    example=[
        {"x": "f32[2,5,3,8]", "p": (0, 2, 1, 3), "i": "i64[1] = 0", "c": "f32[9,4]", "s": "f32[9,4]", "at": {}},
        {"x": "f16[B,L,3,8]", "p": (0, 2, 1, 3), "i": "i64[1] = 2", "c": "f16[9,2]", "s": "f16[9,2]"}
        | {"at": {"rotary_embedding_dim": 4, "num_heads": 3, "interleaved": 1}},
    ],
    refuse={"x": "f32[2,5,3,8]", "p": (1, 2, 0, 3), "i": "i64[1] = 0", "c": "f32[9,4]", "s": "f32[9,4]", "at": {}}
    | {"because": "split the heads"},
)
def rotary_embedding_joins_heads(
    x: Value, p: tuple[int, ...] | None, i: Value, c: Value, s: Value, at: Mapping[str, Any]
) -> Term:
    """RotaryEmbedding(Transpose(x, 0 2 1 3)) = Transpose(RotaryEmbedding(x with joined heads), 0 2 1 3).

    Joined heads are what GroupQueryAttention reads, and it may come only after the rotation took this operator.
    """
    return rotated_together(ROTARY, x, p, (i, c, s), at)
