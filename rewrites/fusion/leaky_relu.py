"""LeakyRelu and PRelu from their parts (He et al. 2015, arXiv:1502.01852)."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import require_float, require_shape

x, w = var("x w")


def _leaky(x: Value, w: Value, root: Value) -> Term:
    """Value x where x > 0, else w·x: LeakyRelu for one number, PRelu for several."""
    require_float(x)
    require_shape(root, x)
    if w.size == 1 and w.is_const:
        return op.LeakyRelu(x, alpha=w.scalar)
    return op.PRelu(x, w)


@rule(
    op.Max(x, op.Mul(x, w)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "w": "f32[] = 0.1"}, {"x": "f32[2,8]", "w": "f32[8] = 0.1 0.9"}],
    refuse=[
        {"x": "f32[2,8]", "w": "f32[] = 1.5", "because": "between zero and one"},
        {"x": "f32[8]", "w": "f32[2,1] = 0.5", "because": "another shape"},
    ],
)
def leaky_relu_of_max(x: Value, w: Value, root: Value) -> Term:
    """max(x, w·x) = LeakyRelu(x, w) for 0 < w ≤ 1."""
    if not w.every(lambda a: bool(np.all(np.greater(a, 0) & np.less_equal(a, 1)))):
        raise Skip("the slope is not a constant between zero and one")
    return _leaky(x, w, root)


@rule(
    op.Where(op.Greater(x, 0.0), x, op.Mul(x, w)),
    op.Where(op.GreaterOrEqual(x, 0.0), x, op.Mul(x, w)),
    op.Where(op.Less(x, 0.0), op.Mul(x, w), x),
    op.Where(op.LessOrEqual(x, 0.0), op.Mul(x, w), x),
    drift="rounding",
    example=[
        {"x": "f32[2,8]", "w": "f32[] = 0.1"},
        {"x": "f32[2,8]", "w": "f32[8] const"},
        {"x": "f16[2,8]", "w": "f16[8]"},
    ],
    refuse={"x": "f32[8]", "w": "f32[2,1] = 0.5", "because": "another shape"},
)
def leaky_relu_of_where(x: Value, w: Value, root: Value) -> Term:
    """w·x where x < 0, else x, = LeakyRelu(x, w), or PRelu(x, w) for slopes that differ."""
    return _leaky(x, w, root)


@rule(
    op.Add(op.Relu(x), op.Mul(op.Relu(op.Neg(x)), w)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "w": "f32[] = -0.1"}, {"x": "f32[2,8]", "w": "f32[1,8] const"}],
    refuse={"x": "f32[2,8]", "w": "f32[3,1,1] const", "because": "another shape"},
)
def prelu_of_two_relus(x: Value, w: Value, root: Value) -> Term:
    """Relu(x) + w·Relu(-x) = PRelu(x, -w): Keras' order."""
    require_float(x)
    require_shape(root, x)
    if w.size == 1 and w.is_const:
        return op.LeakyRelu(x, alpha=-w.scalar)
    return op.PRelu(x, op.Neg(w))


@rule(
    op.Add(op.Relu(x), op.Mul(op.Mul(op.Sub(x, op.Abs(x)), w), 0.5)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "w": "f32[8] const"}, {"x": "f32[2,8]", "w": "f32[] = 0.25"}],
    refuse={"x": "f32[2,8]", "w": "f32[3,1,1] const", "because": "another shape"},
)
def prelu_of_abs(x: Value, w: Value, root: Value) -> Term:
    """Relu(x) + ½·w·(x - |x|) = PRelu(x, w): TensorFlow's order."""
    return _leaky(x, w, root)
