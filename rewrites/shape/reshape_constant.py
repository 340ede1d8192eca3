"""A Reshape whose result's shape is known needs no computed shape, and none at all when the shape stays."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var
from .reshaping import infers, reshape

x, s, z = var("x s z")


@rule(
    op.Reshape(x, s, allowzero=z),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 ReshapeFusion, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[2,3]", "s": "i64[2] = 2 3", "z": None},
        {"x": "i64[2,3]", "s": "i64[1] = -1", "z": None},
        {"x": "f16[n,6]", "s": "i64[3] = 0 2 -1", "z": None},
        {"x": "f32[2,6]", "s": "i64[2] = -1 6", "z": 1},
        {"x": "f32[n,6]", "s": "i64[2] = -1 6", "z": 1},
    ],
)
def reshape_constant(x: Value, s: Value, root: Value) -> Term:
    """Reshape(x, computed shape) = Reshape(x, constant), and x when the shape stays."""
    return reshape(x, root.shape, inferring=infers(s))
