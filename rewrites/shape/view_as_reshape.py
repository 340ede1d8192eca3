"""Squeeze, Unsqueeze and Flatten are Reshapes: written as one, any chain of them merges."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var
from .reshaping import reshape

x, axes, a = var("x axes a")


@rule(
    op.Squeeze(x),
    op.Squeeze(x, axes),
    drift="none",
    phase="canonicalise",
    peers="onnxsim",
    example=[
        {"x": "f32[1,3,1]", "axes": "i64[1] = -1"},
        {"pattern": 1, "x": "i64[n,1,5]", "axes": "i64[1] = 1"},
    ],
    refuse={"pattern": 1, "x": "f32[n,1,m,1,k]", "axes": "i64[1] = 1", "because": "more than one dimension"},
)
def squeeze_as_reshape(x: Value, root: Value) -> Term:
    """Squeeze(x) = Reshape(x, its shape)."""
    return reshape(x, root.shape)


@rule(
    op.Unsqueeze(x, axes),
    drift="none",
    phase="canonicalise",
    peers="onnxsim",
    example=[
        {"x": "f32[2,3]", "axes": "i64[2] = 0 -1"},
        {"x": "f16[n,4]", "axes": "i64[1] = 1"},
        {"x": "f16[n,4]", "axes": "i64[1] = 0"},
    ],
    refuse={"x": "f32[n,m]", "axes": "i64[1] = 0", "because": "more than one dimension"},
)
def unsqueeze_as_reshape(x: Value, root: Value) -> Term:
    """Unsqueeze(x) = Reshape(x, its shape)."""
    return reshape(x, root.shape)


@rule(
    op.Flatten(x, axis=a),
    drift="none",
    phase="canonicalise",
    peers="onnxscript, onnxoptimizer",
    example=[
        {"x": "f32[2,3,4]", "a": None},
        {"x": "i64[2,3,4]", "a": -1},
        {"x": "f32[n,3,4]", "a": 1},
        {"x": "f32[2,3]", "a": 0},
    ],
    refuse={"x": "f32[n,m,k]", "a": 1, "because": "dimension"},
)
def flatten_as_reshape(x: Value, root: Value) -> Term:
    """Flatten(x) = Reshape(x, its shape)."""
    return reshape(x, root.shape)
