"""FusedMatMul: a product of matrices that transposes its operands and scales its result on the way.

ONNX Runtime makes it by itself (MatmulTransposeFusion, MatMulScaleFusion); offered here, the prices of programs that
need a transposition or a scale are right. 1.32 has CPU kernels for float32 and float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ....compiler.rule import Pattern, Skip, Term, Value, op, rule, var

a, b, c, d, p, attributes = var("a b c d p attributes")
FUSED = "com.microsoft::FusedMatMul"


def _fused(a: Value, b: Value, stated: Mapping[str, Any] | None, **changed: Any) -> Term:
    """The product with some attributes changed; those that state a default are left out, so that equals are equal."""
    defaults = {"alpha": 1.0, "transA": 0, "transB": 0}
    every = {**(stated or {}), **changed}
    return op(FUSED)(a, b, **{k: v for k, v in every.items() if v != defaults.get(k)})


def _require_kernel(*operands: Value) -> None:
    if any(o.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) for o in operands):
        raise Skip("the kernel is for float32 and float64")
    if any(o.rank < 2 for o in operands):
        raise Skip("an operand is a vector")


def _exchanges_last_two(p: tuple[int, ...] | None, rank: int) -> bool:
    wanted = (*range(rank - 2), rank - 1, rank - 2)
    return (tuple(reversed(range(rank))) if p is None else p) == wanted


def _products(left: Any, right: Any) -> tuple[Pattern, Pattern]:
    return op.MatMul(left, right), op(FUSED)(left, right, attributes=attributes)


@rule(
    *_products(op.Transpose(a, perm=p), b),
    drift="rounding",
    phase="lower",
    peers="ORT L2 MatmulTransposeFusion, onnxscript",
    example=[
        {"a": "f32[2,3,4]", "b": "f32[2,3,5]", "p": (0, 2, 1), "attributes": {"alpha": 2.0}},
        {"a": "f64[3,4]", "b": "f64[3,5]", "p": None, "attributes": {"transB": 0}},
    ],
    refuse=[
        {"a": "f32[3,2,4]", "b": "f32[2,4,5]", "p": (1, 0, 2), "attributes": {}, "because": "last two"},
        {"a": "f16[3,4]", "b": "f16[3,5]", "p": (1, 0), "pattern": 0, "because": "kernel"},
    ],
)
def transposed_left(a: Value, b: Value, p: tuple[int, ...] | None, attributes: Mapping[str, Any] | None) -> Term:
    """MatMul(aᵀ, b) = FusedMatMul(a, b, transA=1)."""
    _require_kernel(a, b)
    if not _exchanges_last_two(p, a.rank):
        raise Skip("the transposition is not of the last two axes")
    return _fused(a, b, attributes, transA=1 - (attributes or {}).get("transA", 0))


@rule(
    *_products(a, op.Transpose(b, perm=p)),
    drift="rounding",
    phase="lower",
    peers="ORT L2 MatmulTransposeFusion, onnxscript",
    example=[
        {"a": "f32[2,4,3]", "b": "f32[2,5,3]", "p": (0, 2, 1), "attributes": {"alpha": 2.0}},
        {"a": "f32[2,3,4]", "b": "f32[5,4]", "p": (1, 0), "attributes": {}},
    ],
    refuse={"a": "f32[2,3,4]", "b": "f32[4,2,5]", "p": (1, 0, 2), "attributes": {}, "because": "last two"},
)
def transposed_right(a: Value, b: Value, p: tuple[int, ...] | None, attributes: Mapping[str, Any] | None) -> Term:
    """MatMul(a, bᵀ) = FusedMatMul(a, b, transB=1)."""
    _require_kernel(a, b)
    if not _exchanges_last_two(p, b.rank):
        raise Skip("the transposition is not of the last two axes")
    return _fused(a, b, attributes, transB=1 - (attributes or {}).get("transB", 0))


after = _products(a, b)


@rule(
    *(op.Mul(product, c) for product in after),
    *(op.Div(product, d) for product in after),
    drift="rounding",
    phase="lower",
    peers="ORT L2 MatMulScaleFusion, onnxscript",
    example=[
        {"a": "f32[2,4,3]", "b": "f32[2,3,5]", "c": "f32[] = 0.125", "d": "f32[1] = 8", "attributes": {"alpha": 2.0}},
        {"a": "f32[4,3]", "b": "f32[5,3]", "c": "f32[1,1] = 0.125", "d": "f32[] = 8", "attributes": {"transB": 1}}
        | {"pattern": 1},
    ],
    refuse=[
        {"a": "f32[4,3]", "b": "f32[3,5]", "c": "f32[5] const", "pattern": 0, "because": "different numbers"},
        {"a": "f32[4,3]", "b": "f32[3,5]", "c": "f32[2,1,1] = 2", "pattern": 0, "because": "another rank"},
        {"a": "f32[4,3]", "b": "f32[3,5]", "d": "f32[] = 0", "pattern": 2, "because": "zero"},
    ],
)
def scaled_product(a: Value, b: Value, c: Value | None, d: Value | None, attributes: Mapping[str, Any] | None) -> Term:
    """MatMul(a, b)·c = FusedMatMul(a, b, alpha=c)."""
    _require_kernel(a, b)
    return _scaled(a, b, c, d, attributes)


@rule(
    *_products(op.Mul(a, c), b),
    *_products(op.Div(a, d), b),
    *_products(a, op.Mul(b, c)),
    drift="rounding",
    phase="lower",
    peers="ORT L2 MatMulScaleFusion",
    example={
        "a": "f32[2,4,3]",
        "b": "f32[2,3,5]",
        "c": "f32[] = 0.125",
        "d": "f32[1] = 8",
        "attributes": {"alpha": 2.0},
    },
    refuse={"a": "f32[4,3]", "b": "f32[3,5]", "c": "f32[1,1,1] = 2", "pattern": 0, "because": "another rank"},
)
def scaled_operand(a: Value, b: Value, c: Value | None, d: Value | None, attributes: Mapping[str, Any] | None) -> Term:
    """MatMul(a·c, b) = MatMul(a, b·c) = FusedMatMul(a, b, alpha=c)."""
    _require_kernel(a, b)
    return _scaled(a, b, c, d, attributes)


def _scaled(a: Value, b: Value, c: Value | None, d: Value | None, stated: Mapping[str, Any] | None) -> Term:
    if any(factor is not None and factor.rank > max(a.rank, b.rank) for factor in (c, d)):
        raise Skip("the factor broadcasts the product to another rank")
    if d is not None and d.scalar == 0:
        raise Skip("the divisor is zero")
    factor = c.scalar if c is not None else 1 / d.scalar if d is not None else 1.0
    return _fused(a, b, stated, alpha=float(np.float32((stated or {}).get("alpha", 1.0) * factor)))
