"""Quantising what has just been dequantised alike gives the codes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import require_every

x, s, z, a, b = var("x s z a b")


@rule(
    op.QuantizeLinear(op.DequantizeLinear(x, s, z, attributes=a), s, z, attributes=b),
    op.QuantizeLinear(op.DequantizeLinear(x, s, attributes=a), s, attributes=b),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 DoubleQDQPairsRemover (only where it is exact)",
    example=[
        {"x": "u8[2,n]", "s": "f32[] = 0.5", "z": "u8[] = 3", "a": {}, "b": {}},
        {
            "x": "i8[2,3]",
            "s": "f32[3] = 0.5 0.1 7",
            "z": "i8[3] = 1 2 -3",
            "a": {"axis": 1},
            "b": {"axis": 1},
            "pattern": 0,
        },
    ],
    refuse=[
        {"x": "u8[2,3]", "s": "f32[]", "z": "u8[] = 3", "a": {}, "b": {}, "because": "not a constant"},
        {
            "x": "u8[3,3]",
            "s": "f32[3] const",
            "z": "u8[3] const",
            "a": {"axis": 0},
            "b": {"axis": 1},
            "pattern": 0,
            "because": "differently",
        },
        {"x": "i8[3]", "s": "f32[] = 0.5", "a": {}, "b": {}, "pattern": 1, "because": "another type"},
    ],
)
def quantize_of_dequantize(x: Value, s: Value, a: Mapping[str, Any], b: Mapping[str, Any], root: Value) -> Term:
    """QuantizeLinear(DequantizeLinear(q, s, z), s, z) = q: (q − z)·s / s is off by less than half a code."""
    if s.rank > 0 and (a.get("axis", 1) != b.get("axis", 1) or a.get("block_size") or b.get("block_size")):
        raise Skip("the two are scaled differently")
    if root.dtype != x.dtype:
        raise Skip("the codes are of another type")
    require_every(s, _usable, "a scale is zero, negative, or so large or small that codes are lost")
    return x


def _usable(scales: Array) -> bool:
    numbers = np.asarray(scales, dtype=np.float64)
    return (
        bool(((numbers > 1e-30) & (numbers < 1e30)).all())
        if scales.dtype != np.float16
        else bool(((numbers > 1e-3) & (numbers < 64)).all())
    )
