"""Scores bent towards ±c by c·tanh(s/c) before the mask (Gemma 2, arXiv:2408.00118) as Attention's softcap."""

from __future__ import annotations

from math import isfinite

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import attention, fit_mask, one_number, raised, require_kernel_dtype, require_last

q, k, v, m, c, a = var("q k v m c a")
bent = op.Mul(op.Tanh(op.MatMul(q, k)), c)


def _cap(c: Value, q: Value) -> dict[str, float]:
    """Attention computes softcap·tanh(scale·q k / softcap), so tanh(q k) itself has a scale of softcap."""
    cap = one_number(c, q)
    if not isfinite(cap) or cap <= 0:
        raise Skip("the cap is not a positive number")
    return {"scale": float(np.float32(cap)), "softcap": float(np.float32(cap))}


@rule(
    op.MatMul(op.Softmax(bent, axis=a), v),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "c": "f32[] = 3", "a": -1},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "v": "f16[3,6,8]", "c": "f16[1] = 2", "a": 2},
    ],
    refuse=[
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,4]", "c": "f32[] = -3", "a": -1, "because": "positive"},
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,4]", "c": "f32[] = 3", "a": 0, "because": "not the last"},
    ],
)
def attention_softcap(q: Value, k: Value, v: Value, c: Value, a: int) -> Term:
    """softmax(c·tanh(q k)) v = Attention(q, kᵀ, v, scale=c, softcap=c)."""
    require_last(a, q.rank)
    return attention(q, k, v, None, _cap(c, q))


@rule(
    op.MatMul(op.Softmax(op.Add(bent, m), axis=a), v),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "c": "f32[] = 3", "a": -1}
        | {"m": "f32[2,1,1,6] const"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "v": "f16[3,6,8]", "c": "f16[1] = 2", "a": 2, "m": "f16[5,6] const"},
    ],
    refuse=[
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,4]", "c": "f32[] = -3", "a": -1, "m": "f32[5,6] const"}
        | {"because": "positive"},
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,4]", "c": "f32[] = 3", "a": -1, "m": "f32[5,6]"}
        | {"because": "hide every"},
    ],
)
def attention_softcap_masked(q: Value, k: Value, v: Value, m: Value, c: Value, a: int) -> Term:
    """softmax(c·tanh(q k) + m) v = Attention(q, kᵀ, v, m, scale=c, softcap=c) for a constant mask as above."""
    require_kernel_dtype(q, m)
    require_last(a, q.rank)
    return attention(q, k, v, fit_mask(raised(m), m.shape, q, k), _cap(c, q))
