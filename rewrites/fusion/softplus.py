"""Softplus and Mish from their parts."""

from __future__ import annotations

from math import exp

import onnx_ir as ir

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float, require_shape

x, c, d, t = var("x c d t")


@rule(
    op.Log(op.Add(op.Exp(x), 1.0)),
    op.Add(op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)), op.Max(x, 0.0)),
    op.Add(op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)), op.Relu(x)),
    drift="rounding",
    example=[{"x": "f32[2,8]"}, {"x": "f16[8]"}],
)
def softplus(x: Value, root: Value) -> Term:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) = Softplus(x), which does not overflow."""
    require_shape(root, x)
    return op.Softplus(x)


@rule(
    op.Where(op.Greater(x, t), x, op.Softplus(x)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "t": "f32[] = 20"}, {"x": "f16[8]", "t": "f16[1] = 20"}],
    refuse=[
        {"x": "f32[2,8]", "t": "f32[] = 2", "because": "could be told"},
        {"x": "f32[8]", "t": "f32[2,1] = 20", "because": "another shape"},
    ],
)
def softplus_threshold(x: Value, t: Value, root: Value) -> Term:
    """Where(x > t, x, Softplus(x)) = Softplus(x), where exp(-t) is below half a unit in the last place of t."""
    _require_large(x, t.scalar)
    require_shape(root, x)
    return op.Softplus(x)


scaled = op.Mul(x, c)


@rule(
    op.Where(op.Greater(scaled, t), x, op.Div(op.Softplus(scaled), d)),
    drift="rounding",
    example={"x": "f32[2,8]", "t": "f32[] = 20", "c": "f32[] = 2", "d": "f32[] = 2"},
    refuse=[
        {"x": "f32[2,8]", "t": "f32[] = 20", "c": "f32[] = 2", "d": "f32[] = 3", "because": "another number"},
        {"x": "f32[2,8]", "t": "f32[] = 2", "c": "f32[] = 2", "d": "f32[] = 2", "because": "could be told"},
    ],
)
def softplus_threshold_scaled(x: Value, t: Value, c: Value, d: Value, root: Value) -> Term:
    """Where(βx > t, x, Softplus(βx)/β) = Softplus(βx)/β, for t as above."""
    if c.scalar != d.scalar or c.scalar <= 0:
        raise Skip("it is divided by another number than it was multiplied with")
    _require_large(x, t.scalar)
    require_shape(root, x)
    return op.Div(op.Softplus(op.Mul(x, c)), d)


def _require_large(x: Value, threshold: float) -> None:
    require_float(x)
    digits = {ir.DataType.FLOAT: 24, ir.DataType.DOUBLE: 53, ir.DataType.FLOAT16: 11, ir.DataType.BFLOAT16: 8}
    unit = 2.0 ** -digits[ir.DataType(x.dtype or ir.DataType.FLOAT)]
    if threshold <= 0 or exp(-threshold) > unit * threshold:
        raise Skip("beyond the threshold the two branches could be told apart")


@rule(
    op.Mul(x, op.Tanh(op.Softplus(x))),
    drift="rounding",
    peers="onnxsim",
    example=[{"x": "f32[2,8]"}, {"x": "f16[8]"}],
)
def mish(x: Value) -> Term:
    """x·tanh(log(1 + exp(x))) = Mish(x) (Misra 2019, arXiv:1908.08681); ONNX Runtime's CPU takes it apart again."""
    return op.Mish(x)
