"""Gelu by tanh from its parts (Hendrycks and Gimpel 2016, arXiv:1606.08415): ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

The polynomial is first brought to one form (x³ as Pow, the coefficients outside), whichever way it was written.
"""

from __future__ import annotations

from math import pi, sqrt

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import array_of, is_close, require_shape
from .gelu import SHARED, placed, scaled

x, c, d, k = var("x c d k")

ROOT_TWO_OVER_PI = sqrt(2 / pi)
CUBIC = 0.044715

cubic = op.Mul(op.Add(x, op.Mul(op.Pow(x, 3.0), CUBIC)), ROOT_TWO_OVER_PI)


@rule(
    *placed(op.Add(op.Tanh(cubic), 1.0)),
    **SHARED,
    peers="ORT L2 FastGelu (some orders), onnxscript",
)
def gelu_tanh(x: Value, c: Value | None, d: Value | None, root: Value) -> Term:
    """½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = Gelu(x, approximate="tanh")."""
    return scaled(x, c, d, root, "tanh")


@rule(
    op.Mul(x, op.Sigmoid(op.Mul(op.Add(x, op.Mul(op.Pow(x, 3.0), CUBIC)), 2 * ROOT_TWO_OVER_PI))),
    drift="rounding",
    example=[{"x": "f32[2,8]"}, {"x": "f16[8]"}],
)
def gelu_sigmoid(x: Value, root: Value) -> Term:
    """x·σ(2·√(2/π)·(x + 0.044715·x³)) = Gelu(x, approximate="tanh"), as ½·(1 + tanh(u)) = σ(2u)."""
    require_shape(root, x)
    return op.Gelu(x, approximate="tanh")


square = op.Mul(x, x)


@rule(
    op.Mul(op.Mul(op.Mul(x, k), x), x),
    op.Mul(op.Mul(square, k), x),
    op.Mul(square, op.Mul(x, k)),
    op.Mul(op.Mul(op.Pow(x, 2.0), k), x),
    op.Mul(op.Mul(square, x), k),
    op.Mul(op.Mul(op.Pow(x, 2.0), x), k),
    drift="rounding",
    example=[{"x": "f32[2,8]", "k": "f32[] = 0.044715"}, {"x": "f16[8]", "k": "f16[] = 0.044715"}],
    refuse={"x": "f32[2,8]", "k": "f32[] = 0.05", "because": "not Gelu's"},
)
def gelu_cube(x: Value, k: Value, root: Value) -> Term:
    """k·x·x·x = x³·k, for Gelu's k = 0.044715."""
    _require_cubic(k, x)
    require_shape(root, x)
    return op.Mul(op.Pow(x, array_of(3.0, x)), k)


inner = op.Add(op.Mul(square, k), 1.0)
power_inner = op.Add(op.Mul(op.Pow(x, 2.0), k), 1.0)
left_inner = op.Add(op.Mul(op.Mul(x, k), x), 1.0)


@rule(
    op.Mul(op.Mul(x, c), left_inner),
    op.Mul(op.Mul(x, c), inner),
    op.Mul(op.Mul(x, c), power_inner),
    op.Mul(x, op.Mul(left_inner, c)),
    op.Mul(x, op.Mul(inner, c)),
    op.Mul(x, op.Mul(power_inner, c)),
    op.Mul(op.Mul(x, left_inner), c),
    op.Mul(op.Mul(x, inner), c),
    op.Mul(op.Mul(x, power_inner), c),
    drift="rounding",
    example=[
        {"x": "f32[2,8]", "k": "f32[] = 0.044715", "c": "f32[] = 0.7978845608"},
        {"x": "f16[8]", "k": "f16[] = 0.044715", "c": "f16[] = 0.7978845608"},
    ],
    refuse={"x": "f32[2,8]", "k": "f32[] = 0.05", "c": "f32[] = 1", "because": "not Gelu's"},
)
def gelu_polynomial(x: Value, k: Value, c: Value, root: Value) -> Term:
    """c·x·(1 + k·x²) = c·(x + k·x³), for Gelu's k = 0.044715."""
    _require_cubic(k, x)
    require_shape(root, x)
    return op.Mul(op.Add(x, op.Mul(op.Pow(x, array_of(3.0, x)), k)), c)


@rule(
    op.Mul(x, op.Add(op.Mul(square, k), c)),
    op.Mul(x, op.Add(op.Mul(op.Pow(x, 2.0), k), c)),
    drift="rounding",
    example=[
        {"x": "f32[2,8]", "k": "f32[] = 0.0356774081", "c": "f32[] = 0.7978845608"},
        {"x": "f16[8]", "k": "f16[] = 0.0356774081", "c": "f16[] = 0.7978845608"},
    ],
    refuse={"x": "f32[2,8]", "k": "f32[] = 0.044715", "c": "f32[] = 2", "because": "not Gelu's"},
)
def gelu_polynomial_multiplied_out(x: Value, k: Value, c: Value, root: Value) -> Term:
    """x·(c + c·k·x²) = c·(x + k·x³), for Gelu's k = 0.044715."""
    if not c.scalar or not is_close(k.scalar / c.scalar, CUBIC, x):
        raise Skip("the ratio of the coefficients is not Gelu's")
    require_shape(root, x)
    cubed = op.Mul(op.Pow(x, array_of(3.0, x)), array_of(CUBIC, x))
    return op.Mul(op.Add(x, cubed), c)


def _require_cubic(k: Value, x: Value) -> None:
    if not is_close(k.scalar, CUBIC, x):
        raise Skip("the coefficient is not Gelu's 0.044715")
