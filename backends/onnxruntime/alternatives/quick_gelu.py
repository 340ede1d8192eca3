"""QuickGelu: x·σ(αx) in one operator; with α = 1 it is SiLU, for which opset 23 has none (Swish came with 24).

ONNX Runtime makes it by itself where the multiplications stand next to each other; offered here, its price is right and
other rules can count on it. 1.32 has a CPU kernel for float32, used for float16 between two casts.
"""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.rule import Skip, Term, Value, op, rule, var

x, c, d = var("x c d")


@rule(
    op.Mul(x, op.Sigmoid(x)),
    op.Mul(x, op.Sigmoid(op.Mul(x, c))),
    op.Mul(x, op.Sigmoid(op.Div(x, d))),
    drift="rounding",
    phase="lower",
    peers="ORT L2 QuickGeluFusion",
    example=[
        {"x": "f32[2,3,8]", "c": "f32[] = 1.702", "d": "f32[1] = 2"},
        {"x": "f16[2,8]", "c": "f16[1] = 1.702", "d": "f16[] = 0.5"},
    ],
    refuse=[
        {"x": "f64[8]", "pattern": 0, "because": "float32 and float16"},
        {"x": "f32[8]", "c": "f32[8] const", "pattern": 1, "because": "different numbers"},
        {"x": "f32[8]", "c": "f32[2,1] = 1", "pattern": 1, "because": "another shape"},
    ],
)
def quick_gelu(x: Value, c: Value | None, d: Value | None, root: Value) -> Term:
    """x·σ(αx) = QuickGelu(x, α)."""
    if x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise Skip("the kernel is for float32 and float16")
    if root.shape != x.shape:
        raise Skip("a constant broadcasts the operand to another shape")
    if d is not None and d.scalar == 0:
        raise Skip("the divisor is zero")
    alpha = c.scalar if c is not None else 1 / d.scalar if d is not None else 1.0
    return op("com.microsoft::QuickGelu")(x, alpha=alpha)
