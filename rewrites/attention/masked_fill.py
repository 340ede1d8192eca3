"""Scores replaced by a lowest number where a mask hides them become scores plus a mask, which layers share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import KERNEL_DTYPES, require_last

x, b, c, a = var("x b c a")
# any score plus this, or lower, is this
ABSORBING = {ir.DataType.FLOAT: -1e30, ir.DataType.BFLOAT16: -1e30, ir.DataType.FLOAT16: -np.inf}


def _open_and_fill(x: Value, c: Value, a: int, root: Value) -> tuple[Array, Array]:
    require_last(a, root.rank)
    if x.dtype not in KERNEL_DTYPES:
        raise Skip("the scores are not float32 or a half precision")
    if root.shape != x.shape:
        raise Skip("the mask makes the scores larger")
    dtype = ir.DataType(x.dtype or ir.DataType.FLOAT)
    if not c.scalar <= ABSORBING[dtype]:
        raise Skip("the number that hides a score is not low enough to absorb it")
    return np.zeros((), dtype.numpy()), np.asarray(c.scalar, dtype.numpy())


@rule(
    op.Softmax(op.Where(b, x, c), axis=a),
    drift="rounding",
    example=[
        {"x": "f32[2,3,4]", "b": "b[2,1,4]", "c": "f32[] = -inf", "a": -1},
        {"x": "f32[2,3,L]", "b": "b[3,L]", "c": "f32[1] = -3.4028234663852886e38", "a": 2},
        {"x": "f16[3,4]", "b": "b[3,4] = 1 0 1", "c": "f16[] = -inf", "a": -1},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "b": "b[2,1,4]", "c": "f32[] = -1e4", "a": -1, "because": "low enough"},
        {"x": "f16[3,4]", "b": "b[3,4]", "c": "f16[] = -65504", "a": -1, "because": "low enough"},
        {"x": "f32[1,4]", "b": "b[3,4]", "c": "f32[] = -inf", "a": -1, "because": "larger"},
        {"x": "f32[3,4]", "b": "b[3,4]", "c": "f32[] = -inf", "a": 0, "because": "not the last"},
    ],
)
def hidden_otherwise(x: Value, b: Value, c: Value, a: int, root: Value) -> Term:
    """softmax(b ? x : -∞) = softmax(x + (b ? 0 : -∞)), and so for numbers so low that they absorb every score."""
    zero, fill = _open_and_fill(x, c, a, root)
    return op.Softmax(op.Add(x, op.Where(b, zero, fill)), axis=a)


@rule(
    op.Softmax(op.Where(b, c, x), axis=a),
    drift="rounding",
    example=[
        {"x": "f32[2,3,4]", "b": "b[2,1,4]", "c": "f32[] = -inf", "a": -1},
        {"x": "f16[3,4]", "b": "b[3,4] = 1 0 1", "c": "f16[] = -inf", "a": -1},
    ],
    refuse={"x": "f32[2,3,4]", "b": "b[2,1,4]", "c": "f32[] = -1e4", "a": -1, "because": "low enough"},
)
def hidden_where(x: Value, b: Value, c: Value, a: int, root: Value) -> Term:
    """softmax(b ? -∞ : x) = softmax(x + (b ? -∞ : 0)), and so for numbers so low that they absorb every score."""
    zero, fill = _open_and_fill(x, c, a, root)
    return op.Softmax(op.Add(x, op.Where(b, fill, zero)), axis=a)
