"""Gelu of a sum with a vector in one pass: BiasGelu by erf, FastGelu with a bias by tanh.

Both have a CPU kernel for float32 in ONNX Runtime 1.32. After a product of matrices they also keep the runtime from
making a Gemm between two Reshapes of it: 1 to 7 % of such a layer at width 64, nothing at width 768.
"""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.rule import Skip, Term, Value, op, rule, var

x, b, approximate = var("x b approximate")


@rule(
    op.Gelu(op.Add(x, b), approximate=approximate),
    drift="rounding",
    phase="lower",
    peers="ORT L2 BiasGeluFusion, onnxscript",
    example=[
        {"x": "f32[2,3,8]", "b": "f32[8] const", "approximate": "none"},
        {"x": "f32[2,3,8]", "b": "f32[8]", "approximate": "tanh"},
    ],
    refuse=[
        {"x": "f32[2,8]", "b": "f32[2,8]", "approximate": "none", "because": "no vector"},
        {"x": "f16[2,8]", "b": "f16[8]", "approximate": "none", "because": "float32"},
        {"x": "f32[2,1]", "b": "f32[8]", "approximate": "tanh", "because": "last axis"},
    ],
)
def bias_gelu(x: Value, b: Value, approximate: str) -> Term:
    """Gelu(x + b) = BiasGelu(x, b), or FastGelu(x, b) by tanh, for a vector b along the last axis."""
    if x.dtype != ir.DataType.FLOAT:
        raise Skip("the kernel is for float32")
    if b.rank != 1:
        raise Skip("the summand is no vector")
    if not x.rank or not isinstance(b.shape[0], int) or x.shape[-1] != b.shape[0]:
        raise Skip("the vector is not as long as the last axis")
    return op("com.microsoft::FastGelu" if approximate == "tanh" else "com.microsoft::BiasGelu")(x, b)
