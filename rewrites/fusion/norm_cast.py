"""A normalisation computed in float32 around half-precision values is what its operator does inside (stash_type 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import HALVES

x, s, b, to, attributes = var("x s b to attributes")
wide = op.Cast(x, to=int(ir.DataType.FLOAT))


@rule(
    op.Cast(op.RMSNormalization(wide, s, attributes=attributes), to=to),
    drift="rounding",
    example={"x": "f16[2,8]", "s": "f32[8] = 1 2 0.5", "attributes": {"epsilon": 1e-6}, "to": 10},
    refuse=[
        {"x": "f16[2,8]", "s": "f32[8] = 1", "attributes": {}, "to": 11, "because": "another type"},
        {"x": "f16[2,8]", "s": "f32[8] = 0.1", "attributes": {}, "to": 10, "because": "rounded"},
    ],
)
def rms_norm_cast(x: Value, s: Value, to: int, attributes: Mapping[str, Any]) -> Term:
    """Cast(RMSNormalization(Cast(x, f32), s), f16) = RMSNormalization(x, s) for x and s of f16."""
    _require_half(x, to, s)
    return op.RMSNormalization(x, op.Cast(s, to=to), **attributes)


@rule(
    op.Cast(op.LayerNormalization(wide, s, attributes=attributes), to=to),
    op.Cast(op.LayerNormalization(wide, s, b, attributes=attributes), to=to),
    drift="rounding",
    example={"x": "f16[2,8]", "s": "f32[8] = 1 2", "b": "f32[8] = 1 0", "attributes": {"epsilon": 1e-6}, "to": 10},
    refuse={"x": "f16[2,8]", "s": "f32[8] = 1", "b": "f32[8] = 0.1", "attributes": {}, "to": 10, "pattern": 1},
)
def layer_norm_cast(x: Value, s: Value, b: Value | None, to: int, attributes: Mapping[str, Any]) -> Term:
    """Cast(LayerNormalization(Cast(x, f32), s, b), f16) = LayerNormalization(x, s, b) for x, s and b of f16."""
    _require_half(x, to, s)
    if b is None:
        return op.LayerNormalization(x, op.Cast(s, to=to), **attributes)
    _require_half(x, to, b)
    return op.LayerNormalization(x, op.Cast(s, to=to), op.Cast(b, to=to), **attributes)


def _require_half(x: Value, to: int, weight: Value) -> None:
    if x.dtype != to or to not in HALVES:
        raise Skip("the operand has another type than the result, or is not of half precision")
    half = ir.DataType(to).numpy()

    def exact(array: Array) -> bool:
        return bool(np.all(array.astype(half).astype(array.dtype) == array))

    if not weight.every(exact):
        raise Skip("a weight would be rounded")
