"""Expands that enlarge nothing, stand in a row, or are made of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints
from .dimensions import same_shape

x, s, t, v, r = var("x s t v r")


@rule(
    op.Expand(x, s),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 ExpandElimination, onnxslim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[2,3]", "s": "i64[2] = 2 3"},
        {"x": "f32[2,3]", "s": "i64[1] = 1"},
        {"x": "i64[n,3]", "s": "i64[2] = 1 1"},
    ],
    refuse=[
        {"x": "f32[2,1]", "s": "i64[2] = 2 3", "because": "enlarges"},
        {"x": "f32[n]", "s": "i64[1] = 2", "because": "enlarges"},
    ],
)
def expand_identity(x: Value, root: Value) -> Term:
    """Expand(x, its own shape) = x."""
    if not same_shape(x.shape, root.shape):
        raise Skip("the Expand enlarges its operand")
    return x


@rule(
    op.Expand(x, s),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 ConstantFolding, onnxscript",
    example={"x": "f32[1,3]", "s": "i64[2] = 2 1"},
    refuse=[
        {"x": "f32[1,n]", "s": "i64[2] = 2 1", "because": "dimension"},
        {"x": "f32[1,3]", "s": "i64[2] = 2 3", "because": "already"},
    ],
)
def expand_to_constant(x: Value, s: Value, root: Value) -> Term:
    """Expand(x, s) = Expand(x, constant shape) when the result's shape is known."""
    shape = ints(*root.static_shape)
    if s.every(lambda entries: np.array_equal(entries, shape)):
        raise Skip("the shape is already the result's")
    return op.Expand(x, shape)


@rule(
    op.Expand(op.Expand(x, s), t),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[1,1,3]", "s": "i64[3] = 1 4 3", "t": "i64[3] = 2 1 1"},
    refuse={"x": "f32[1,1,3]", "s": "i64[3]", "t": "i64[3] = 2 1 1", "because": "dimension"},
)
def expand_pair(x: Value, root: Value) -> Term:
    """Expand(Expand(x, s), t) = Expand(x, the result's shape)."""
    return op.Expand(x, ints(*root.static_shape))


@rule(
    op.ConstantOfShape(s, value=v),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"s": "i64[2]", "v": ir.tensor(np.asarray([2.0], dtype=np.float32))},
        {"s": "i64[1]", "v": None},
        {"s": "i64[1]", "v": ir.tensor(np.asarray([True]))},
    ],
)
def constant_of_shape_as_expand(s: Value, v: Any) -> Term:
    """ConstantOfShape(s, value) = Expand(value, s)."""
    number: Array = np.zeros([], dtype=np.float32) if v is None else v.reshape([])
    return op.Expand(number, s)


@rule(
    op.Tile(x, r),
    drift="none",
    phase="canonicalise",
    peers="onnxsim (once only)",
    example=[
        {"x": "f32[2,3]", "r": "i64[2] = 1 1"},
        {"x": "f32[n,3]", "r": "i64[2] = 1 1"},
        {"x": "i64[1,3,1]", "r": "i64[3] = 4 1 2"},
        {"x": "f32[n,1]", "r": "i64[2] = 1 2"},
    ],
    refuse=[
        {"x": "f32[2,3]", "r": "i64[2] = 2 1", "because": "larger than one"},
        {"x": "f32[n]", "r": "i64[1] = 2", "because": "larger than one"},
    ],
)
def tile_as_expand(x: Value, r: Value) -> Term:
    """Tile(x, r) = Expand(x, r) when only dimensions of size 1 are repeated, and x when none is."""
    counts = [int(c) for c in r.array.reshape(-1)]
    if any(c != 1 and d != 1 for c, d in zip(counts, x.shape, strict=True)):
        raise Skip("a dimension larger than one is repeated")
    return x if all(c == 1 for c in counts) else op.Expand(x, ints(*counts))
