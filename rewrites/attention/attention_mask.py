"""Constant masks of Attention that say nothing, or only what `is_causal` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import is_far

q, k, v, m, at = var("q k v m at")
OPERANDS = {"q": "f32[2,4,3,8]", "k": "f32[2,2,3,8]", "v": "f32[2,2,3,5]"}


def _hides_nothing(mask: Array) -> bool:
    return mask.size > 0 and (bool(mask.all()) if mask.dtype.kind == "b" else not bool(np.any(mask)))


def _is_causal(mask: Array) -> bool:
    """Whether every matrix of a mask lets row i see exactly the columns up to i."""
    if mask.ndim < 2 or mask.size == 0 or mask.shape[-1] < 2:
        return False
    seen = np.tril(np.ones(mask.shape[-2:], dtype=bool))
    if mask.dtype.kind == "b":
        return bool(np.all(mask == seen))
    if mask.dtype.kind != "f":
        return False
    return not np.any(mask[..., seen]) and is_far(mask[..., ~seen])


@rule(
    op.Attention(q, k, v, m, attributes=at),
    drift="rounding",
    example=[
        OPERANDS | {"m": "f32[3,3] = 0", "at": {"scale": 0.5}},
        OPERANDS | {"m": "b[2,1,3,3] = 1", "at": {"is_causal": 1}},
        {"q": "f16[1,L,8]", "k": "f16[1,S,4]", "v": "f16[1,S,4]", "m": "f16[2,2] = 0"}
        | {"at": {"q_num_heads": 2, "kv_num_heads": 1}},
    ],
    refuse=[
        OPERANDS | {"m": "f32[3,3] = 0 0 1", "at": {}, "because": "hides"},
        OPERANDS | {"m": "b[3,3] = 0 1 1", "at": {}, "because": "hides"},
        OPERANDS | {"m": "f32[3,3]", "at": {}, "because": "hides"},
    ],
)
def empty_mask(q: Value, k: Value, v: Value, m: Value, at: Mapping[str, Any]) -> Term:
    """Attention(q, k, v, 0) = Attention(q, k, v), and so with a mask that is true everywhere."""
    if not m.every(_hides_nothing):
        raise Skip("the mask hides or weighs something, or is computed")
    return op.Attention(q, k, v, **at)


@rule(
    op.Attention(q, k, v, m, attributes=at),
    drift="rounding",
    peers="onnxscript (com.microsoft)",
    example=[
        OPERANDS | {"m": "f32[3,3] = 0 -inf -inf 0 0 -inf 0 0 0", "at": {"scale": 0.5}},
        OPERANDS | {"m": "f32[2,1,3,3] = 0 -3.4028234663852886e38 -1e9 0 0 -1e30 0 0 0", "at": {}},
        OPERANDS | {"m": "b[1,4,3,3] = 1 0 0 1 1 0 1 1 1", "at": {"is_causal": 1}},
        {"q": "f16[1,2,8]", "k": "f16[1,5,4]", "v": "f16[1,5,4]", "m": "b[2,5] = 1 0 0 0 0 1 1 0 0 0"}
        | {"at": {"q_num_heads": 2, "kv_num_heads": 1}},
    ],
    refuse=[
        OPERANDS | {"m": "f32[3,3] = 0 -1 -1 0 0 -1 0 0 0", "at": {}, "because": "not causal"},
        OPERANDS | {"m": "b[3,3] = 1 0 0 0 1 0 0 0 1", "at": {}, "because": "not causal"},
        OPERANDS | {"m": "b[3,3]", "at": {}, "because": "not causal"},
    ],
)
def causal_mask(q: Value, k: Value, v: Value, m: Value, at: Mapping[str, Any]) -> Term:
    """Attention(q, k, v, 0 up to the diagonal and -∞ above) = Attention(q, k, v, is_causal=1)."""
    if not (m.fact.causal or m.every(_is_causal)):
        raise Skip("the mask is not causal, or is computed")
    return op.Attention(q, k, v, **(dict(at) | {"is_causal": 1}))
