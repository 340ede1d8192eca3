"""A number that scales the queries or keys of an Attention becomes part of its own scale."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, sqrt
from typing import Any

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import one_number, require_number

q, k, v, m, c, at = var("q k v m c at")


def _scaled(q: Value, k: Value, v: Value, m: Value | None, factor: float, attributes: Mapping[str, Any]) -> Term:
    stated = attributes.get("scale")
    scale = (1 / sqrt(_head_size(q, attributes)) if stated is None else stated) * factor
    if not isfinite(scale) or scale <= 0:
        raise Skip("the scale is not positive")  # ONNX Runtime refuses any other
    operands = (q, k, v) if m is None else (q, k, v, m)
    return op.Attention(*operands, **(dict(attributes) | {"scale": float(np.float32(scale))}))


def _head_size(q: Value, attributes: Mapping[str, Any]) -> int:
    size = require_number(q.shape[-1], "the size of a head")
    return size if q.rank == 4 else size // int(attributes["q_num_heads"])


FOUR = {"q": "f32[2,3,5,8]", "k": "f32[2,3,6,8]", "v": "f32[2,3,6,4]"}
THREE = {"q": "f32[2,L,6]", "k": "f32[2,S,6]", "v": "f32[2,S,3]"}
HEADS = {"q_num_heads": 3, "kv_num_heads": 3}


@rule(
    op.Attention(op.Mul(q, c), k, v, attributes=at),
    op.Attention(op.Mul(q, c), k, v, m, attributes=at),
    drift="rounding",
    example=[
        FOUR | {"m": "f32[5,6]", "c": "f32[] = 0.5", "at": {"scale": 1.0}},
        THREE | {"m": "f32[1,1]", "c": "f32[1] = 3", "at": HEADS, "pattern": 0},
        {"q": "f16[2,3,5,8]", "k": "f16[2,3,6,8]", "v": "f16[2,3,6,4]", "m": "f16[5,6]", "c": "f16[] = 0.5", "at": {}},
    ],
    refuse=[
        FOUR | {"m": "f32[5,6]", "c": "f32[] = -1", "at": {"scale": 1.0}, "because": "not positive"},
        FOUR | {"m": "f32[5,6]", "c": "f32[] = 0", "at": {}, "because": "not positive"},
        FOUR | {"m": "f32[5,6]", "c": "f32[8] = 1 2", "at": {}, "because": "not one number"},
        FOUR | {"m": "f32[5,6]", "c": "f32[]", "at": {}, "because": "not a constant"},
    ],
)
def query_scale(q: Value, k: Value, v: Value, c: Value, at: Mapping[str, Any], m: Value | None) -> Term:
    """Attention(q·c, k, v, scale) = Attention(q, k, v, scale·c)."""
    return _scaled(q, k, v, m, one_number(c, q), at)


@rule(
    op.Attention(op.Div(q, c), k, v, attributes=at),
    op.Attention(op.Div(q, c), k, v, m, attributes=at),
    drift="rounding",
    example=[
        FOUR | {"m": "f32[5,6]", "c": "f32[] = 2.8", "at": {"scale": 1.0}},
        THREE | {"m": "f32[1,1]", "c": "f32[1] = 3", "at": HEADS, "pattern": 0},
    ],
    refuse=FOUR | {"m": "f32[5,6]", "c": "f32[] = 0", "at": {}, "because": "divisor is zero"},
)
def query_divisor(q: Value, k: Value, v: Value, c: Value, at: Mapping[str, Any], m: Value | None) -> Term:
    """Attention(q/c, k, v, scale) = Attention(q, k, v, scale/c)."""
    divisor = one_number(c, q)
    if divisor == 0:
        raise Skip("the divisor is zero")
    return _scaled(q, k, v, m, 1 / divisor, at)


@rule(
    op.Attention(q, op.Mul(k, c), v, attributes=at),
    op.Attention(q, op.Mul(k, c), v, m, attributes=at),
    drift="rounding",
    example=[
        FOUR | {"m": "f32[5,6]", "c": "f32[] = 0.5", "at": {"scale": 1.0}},
        THREE | {"m": "f32[1,1]", "c": "f32[1] = 3", "at": HEADS, "pattern": 0},
    ],
    refuse=[
        FOUR | {"m": "f32[5,6]", "c": "f32[] = -1", "at": {"scale": 1.0}, "because": "not positive"},
        FOUR | {"m": "f32[5,6]", "c": "f32[8] = 1 2", "at": {}, "because": "not one number"},
    ],
)
def key_scale(q: Value, k: Value, v: Value, c: Value, at: Mapping[str, Any], m: Value | None) -> Term:
    """Attention(q, k·c, v, scale) = Attention(q, k, v, scale·c)."""
    return _scaled(q, k, v, m, one_number(c, k), at)
