"""Gelu from its parts (Hendrycks and Gimpel 2016, arXiv:1606.08415): x·Φ(x), the distribution function by erf.

Exporters write x·½·(1 + erf(x/√2)) with the half and the division anywhere; all orders below mean the same.
ONNX Runtime 1.32 has a CPU kernel of Gelu for float32 only; in float16 it runs the function body, six operators
between two casts, so there the price decides.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from ...compiler.rule import Pattern, Skip, Term, Value, op, rule, var
from .constants import array_of, is_close, require_float, require_shape

x, u, c, d, one = var("x u c d one")

ROOT_HALF = sqrt(0.5)


def placed(doubled: Pattern) -> tuple[Pattern, ...]:
    """Patterns of x times twice the distribution function, with a factor c (or divisor d) wherever it may stand."""
    return (
        op.Mul(x, doubled),
        op.Mul(op.Mul(x, c), doubled),
        op.Mul(x, op.Mul(doubled, c)),
        op.Mul(op.Mul(x, doubled), c),
        op.Mul(op.Div(x, d), doubled),
        op.Mul(x, op.Div(doubled, d)),
        op.Div(op.Mul(x, doubled), d),
    )


def scaled(x: Value, c: Value | None, d: Value | None, root: Value, approximate: str | None) -> Term:
    """What `placed` matches, as Gelu: times 2c or 2/d where that is not one.

    Raises:
        Skip: the factor is not one number.
    """
    require_float(x)
    require_shape(root, x)
    factor = c.scalar if c is not None else 1 / _divisor(d) if d is not None else 1.0
    gelu = op.Gelu(x, approximate=approximate)
    return gelu if factor == 0.5 else op.Mul(gelu, array_of(2 * factor, x))


def _divisor(d: Value) -> float:
    if d.scalar == 0:
        raise Skip("the divisor is zero")
    return d.scalar


EXAMPLES = [
    {"x": "f32[2,3,8]", "c": "f32[] = 0.5", "d": "f32[1] = 2"},
    {"x": "f16[2,8]", "c": "f16[1,1] = 0.5", "d": "f16[] = 2"},
    {"x": "f32[B,8]", "c": "f32[] = 0.25", "d": "f32[] = 4"},
]
REFUSE = [
    {"x": "f32[8]", "c": "f32[8] const", "d": "f32[8] const", "pattern": 1, "because": "different numbers"},
    {"x": "f32[8]", "c": "f32[2,1] = 0.5", "d": "f32[2,1] = 2", "pattern": 2, "because": "another shape"},
]
SHARED: dict[str, Any] = {"drift": "rounding", "example": EXAMPLES, "refuse": REFUSE}


@rule(
    *placed(op.Add(op.Erf(op.Mul(x, ROOT_HALF)), 1.0)),
    **SHARED,
    peers="ORT L1 and L2 (some orders), onnxscript",
)
def gelu(x: Value, c: Value | None, d: Value | None, root: Value) -> Term:
    """½·x·(1 + erf(x/√2)) = Gelu(x)."""
    return scaled(x, c, d, root, None)


@rule(
    op.Mul(x, op.Add(op.Mul(op.Erf(op.Mul(x, ROOT_HALF)), 0.5), 0.5)),
    op.Mul(x, op.Add(op.Div(op.Erf(op.Mul(x, ROOT_HALF)), 2.0), 0.5)),
    drift="rounding",
    example=[{"x": "f32[2,3,8]"}, {"x": "f16[8]"}],
)
def gelu_of_halves(x: Value, root: Value) -> Term:
    """x·(½ + ½·erf(x/√2)) = Gelu(x)."""
    require_shape(root, x)
    return op.Gelu(x)


@rule(
    op.Erf(op.Div(x, d)),
    drift="rounding",
    example=[{"x": "f32[2,8]", "d": "f32[] = 1.4142135381698608"}, {"x": "f16[8]", "d": "f16[1] = 1.4140625"}],
    refuse=[
        {"x": "f32[2,8]", "d": "f32[] = 2", "because": "not √2"},
        {"x": "f32[8]", "d": "f32[2,1] = 1.4142135381698608", "because": "another shape"},
    ],
)
def erf_argument(x: Value, d: Value, root: Value) -> Term:
    """erf(x / √2) = erf(x · √½)."""
    if not is_close(d.scalar, sqrt(2), x):
        raise Skip("the divisor is not √2")
    require_shape(root, x)
    return op.Erf(op.Mul(x, array_of(ROOT_HALF, x)))


@rule(
    op.Sub(one, op.Erf(op.Neg(u))),
    op.Sub(one, op.Erf(op.Mul(op.Neg(x), c))),
    op.Sub(one, op.Erf(op.Mul(x, d))),
    drift="rounding",
    example=[
        {"u": "f32[2,8]", "one": "f32[] = 1", "pattern": 0},
        {"x": "f32[2,8]", "one": "f32[] = 1", "c": "f32[] = 0.7071067811865476", "pattern": 1},
        {"x": "f16[8]", "one": "f16[] = 1", "d": "f16[] = -0.7071067811865476", "pattern": 2},
    ],
    refuse=[
        {"u": "f32[2,8]", "one": "f32[] = 2", "pattern": 0, "because": "not one"},
        {"x": "f32[2,8]", "one": "f32[] = 1", "d": "f32[] = 0.7", "pattern": 2, "because": "not negative"},
    ],
)
def complementary_erf(one: Value, u: Value | None, x: Value | None, c: Value | None, d: Value | None) -> Term:
    """1 - erf(-u) = 1 + erf(u): the complementary error function that JAX writes."""
    if one.scalar != 1:
        raise Skip("the minuend is not one")
    if u is not None:
        return op.Add(op.Erf(u), one)
    if x is None:
        raise Skip("nothing is bound")
    if c is not None:
        return op.Add(op.Erf(op.Mul(x, c)), one)
    if d is None or d.scalar >= 0:
        raise Skip("the factor is not negative")
    return op.Add(op.Erf(op.Mul(x, array_of(-d.scalar, d, d.static_shape))), one)
