"""The scale of attention's scores moves from the product to the queries, where Attention or a Linear takes it in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import KERNEL_DTYPES, one_number

q, k, c, d = var("q k c d")


def _number(number: float, like: Value) -> Array:
    if not np.isfinite(number) or number == 0:
        raise Skip("the factor is zero or not finite")
    return np.asarray(number, dtype=ir.DataType(like.dtype or ir.DataType.FLOAT).numpy())


def _require_scores(q: Value, k: Value) -> None:
    if q.dtype not in KERNEL_DTYPES:
        raise Skip("the operands are not float32 or float16")
    if q.rank < 2 or k.rank < 2 or q.is_const or k.is_const:
        raise Skip("this is not a product of two computed matrices")


@rule(
    op.Mul(op.MatMul(q, k), c),
    drift="rounding",
    peers="ORT L2 MatMulScaleFusion",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "c": "f32[] = 0.35"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "c": "f16[1] = 0.25"},
    ],
    refuse=[
        {"q": "f32[3,5,8]", "k": "f32[8,6] const", "c": "f32[] = 2", "because": "two computed"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "c": "f32[6] = 2", "because": "not one number"},
        {"q": "f64[3,5,8]", "k": "f64[3,8,6]", "c": "f64[] = 2", "because": "float32 or float16"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "c": "f32[] = 0", "because": "zero"},
    ],
)
def scale_before_product(q: Value, k: Value, c: Value) -> Term:
    """(q k)·c = (q·c) k: queries are fewer than scores."""
    _require_scores(q, k)
    return op.MatMul(op.Mul(q, _number(one_number(c, q), q)), k)


@rule(
    op.Div(op.MatMul(q, k), c),
    drift="rounding",
    peers="ORT L2 MatMulScaleFusion",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "c": "f32[] = 2.828"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "c": "f16[1] = 4"},
    ],
    refuse=[
        {"q": "f32[3,5,8]", "k": "f32[8,6] const", "c": "f32[] = 2", "because": "two computed"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "c": "f32[] = 0", "because": "zero"},
    ],
)
def divisor_before_product(q: Value, k: Value, c: Value) -> Term:
    """(q k)/c = (q·1/c) k."""
    _require_scores(q, k)
    divisor = one_number(c, q)
    return op.MatMul(op.Mul(q, _number(1 / divisor if divisor else 0.0, q)), k)


@rule(
    op.MatMul(op.Mul(q, c), op.Mul(k, d)),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "c": "f32[] = 0.59460354", "d": "f32[1] = 0.59460354"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "c": "f16[1] = 0.5", "d": "f16[] = 0.5"},
    ],
    refuse=[
        {"q": "f32[3,5,8]", "k": "f32[8,6] const", "c": "f32[] = 2", "d": "f32[] = 2", "because": "two computed"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "c": "f32[8] = 2", "d": "f32[] = 2", "because": "not one number"},
    ],
)
def joined_scales(q: Value, k: Value, c: Value, d: Value) -> Term:
    """(q·c)(k·d) = (q·cd) k: torch writes √scale on both sides, against overflow in float16."""
    _require_scores(q, k)
    return op.MatMul(op.Mul(q, _number(one_number(c, q) * one_number(d, k), q)), k)
