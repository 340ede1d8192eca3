"""Bounds: maxima, minima, Clip and Relu of one another."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .broadcasting import is_float, keeps_shape, require_every, require_float

x, c, d, low, high, low2, high2, slope = var("x c d low high low2 high2 slope")


def _bounds(x: Value, low: Value | None, high: Value | None) -> tuple[float, float]:
    """The bounds of a Clip. One that is left out is the type's largest number, not infinity.

    Raises:
        Skip: a bound is not a constant, or they cross.
    """
    lowest, highest = _limits(x)
    a = lowest if low is None or not low.uid else low.scalar
    b = highest if high is None or not high.uid else high.scalar
    if not a <= b:
        raise Skip("the bounds cross")
    return a, b


def _limits(x: Value) -> tuple[float, float]:
    dtype = _dtype(x)
    limits = ml_dtypes.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.finfo(dtype)
    return float(limits.min), float(limits.max)


def _dtype(x: Value) -> np.dtype[Any]:
    if x.dtype is None:
        raise Skip("the type is not known")
    return ir.DataType(x.dtype).numpy()


def _clip(x: Value, low: float, high: float) -> Term:
    lowest, highest = _limits(x)
    lower = None if low == lowest else np.asarray(low, dtype=_dtype(x))
    upper = None if high == highest else np.asarray(high, dtype=_dtype(x))
    return op.Clip(x, lower, upper)


@rule(
    op.Max(x, c),
    drift="none",
    phase="canonicalise",
    peers="onnxscript",
    example=[{"x": "f32[2,n]", "c": "f32[1] = 0"}, {"x": "f32[2,3]", "c": "f32[3] = 0"}],
    refuse=[
        {"x": "f32[2]", "c": "f32[] = 1", "because": "not zero"},
        {"x": "f32[2]", "c": "f32[2,1] = 0", "because": "another shape"},
        {"x": "i64[2]", "c": "i64[] = 0", "because": "floating"},
    ],
)
def max_of_zero(x: Value, c: Value) -> Term:
    """Max(x, 0) = Relu(x)."""
    require_float(x)
    require_every(c, lambda array: bool((array == 0).all()), "the bound is not zero")
    keeps_shape(x, c)
    return op.Relu(x)


@rule(
    op.Clip(x, low, high),
    drift="none",
    phase="canonicalise",
    peers="onnxscript (also without an upper bound, which infinity would pass)",
    example={"x": "f32[2,n]", "low": "f32[] = 0", "high": "f32[] = inf"},
    refuse=[
        {"x": "f32[2]", "low": "f32[] = 0", "high": "f32[] = 6", "because": "above"},
        {"x": "f32[2]", "low": "f32[] = 0", "high": "f32[] = 3e38", "because": "above"},
        {"x": "f32[2]", "low": "f32[] = 1", "high": "f32[] = inf", "because": "zero"},
        {"x": "i32[2]", "low": "i32[] = 0", "high": "i32[] = 6", "because": "floating"},
    ],
)
def clip_below_zero(x: Value, low: Value, high: Value) -> Term:
    """Clip(x, 0, ∞) = Relu(x)."""
    require_float(x)
    a, b = _bounds(x, low, high)
    if a != 0:
        raise Skip("the lower bound is not zero")
    if b != float("inf"):
        raise Skip("the Clip bounds from above too")
    return op.Relu(x)


@rule(
    op.Clip(x, low, high),
    drift="none",
    phase="canonicalise",
    peers="onnxscript",
    example=[
        {"x": "f32[2,n]", "low": "f32[] = -inf", "high": "f32[] = inf"},
        {"x": "i8[2,n]", "low": "i8[] = -128", "high": "i8[] = 127"},
    ],
    refuse=[
        {"x": "f32[2]", "low": "f32[] = 0", "high": "f32[] = inf", "because": "bounds"},
        {"x": "f32[2]", "low": None, "high": "f32[] = inf", "because": "bounds"},
    ],
)
def clip_without_bounds(x: Value, low: Value, high: Value) -> Term:
    """Clip(x, −∞, ∞) = x."""
    extent = (-float("inf"), float("inf")) if is_float(x) else _limits(x)
    if _bounds(x, low, high) != extent:
        raise Skip("the Clip has bounds")
    return x


@rule(
    op.Clip(op.Clip(x, low, high), low2, high2),
    op.Clip(op.Clip(x, low), low2, high2),
    op.Clip(op.Clip(x, low, high), low2),
    op.Clip(op.Clip(x, low), low2),
    drift="none",
    phase="canonicalise",
    peers="onnxscript fuse_successive_clip",
    example=[
        {"x": "f32[2,n]", "low": "f32[] = -1", "high": "f32[] = 4", "low2": "f32[] = 0", "high2": "f32[] = 6"},
        {"x": "f32[2,n]", "low": "f32[] = 1", "high": "f32[] = 2", "low2": "f32[] = 3", "high2": "f32[] = 4"},
        {"x": "i32[9]", "low": None, "high": "i32[] = 2", "low2": "i32[] = 1", "high2": None, "pattern": 0},
    ],
    refuse={
        "x": "f32[2]",
        "low": "f32[] = 1",
        "high": "f32[] = 0",
        "low2": "f32[] = 0",
        "high2": "f32[] = 1",
        "pattern": 0,
        "because": "cross",
    },
)
def clip_pair(x: Value, low: Value | None, high: Value | None, low2: Value | None, high2: Value | None) -> Term:
    """Clip(Clip(x, a, b), c, d) = Clip(x, a within c and d, b within c and d)."""
    a, b = _bounds(x, low, high)
    c, d = _bounds(x, low2, high2)
    return _clip(x, min(max(a, c), d), min(max(b, c), d))


@rule(
    op.Clip(op.Relu(x), low2, high2),
    op.Clip(op.Relu(x), low2),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 FuseReluClip, onnxscript",
    example=[
        {"x": "f32[2,n]", "low2": "f32[] = -1", "high2": "f32[] = 6"},
        {"x": "f32[2,n]", "low2": None, "high2": "f32[] = 6", "pattern": 0},
        {"x": "f32[2,n]", "low2": "f32[] = 0.5", "high2": "f32[] = 6"},
    ],
    refuse={"x": "f32[2]", "low2": "f32[] = 1", "high2": "f32[] = 0", "pattern": 0, "because": "cross"},
)
def clip_of_relu(x: Value, low2: Value | None, high2: Value | None) -> Term:
    """Clip(Relu(x), c, d) = Clip(x, 0 within c and d, d)."""
    c, d = _bounds(x, low2, high2)
    return _clip(x, min(max(0.0, c), d), d)


@rule(
    op.Relu(op.Clip(x, low, high)),
    op.Relu(op.Clip(x, low)),
    drift="none",
    phase="canonicalise",
    peers="onnxscript fuse_successive_relu_clip",
    example=[
        {"x": "f32[2,n]", "low": "f32[] = -1", "high": "f32[] = 6"},
        {"x": "f32[2,n]", "low": "f32[] = -3", "high": "f32[] = -1", "pattern": 0},
    ],
    refuse={"x": "f32[2]", "low": "f32[] = 1", "high": "f32[] = 0", "pattern": 0, "because": "cross"},
)
def relu_of_clip(x: Value, low: Value | None, high: Value | None) -> Term:
    """Relu(Clip(x, a, b)) = Clip(x, a above 0, b above 0)."""
    a, b = _bounds(x, low, high)
    return _clip(x, max(a, 0.0), max(b, 0.0))


@rule(
    op.PRelu(x, slope),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3,4]", "slope": "f32[3,1] = 0.2"}, {"x": "f32[2,n]", "slope": "f32[1] = -0.5"}],
    refuse=[
        {"x": "f32[2,3]", "slope": "f32[3] = 0.2 0.2 0.1", "because": "different numbers"},
        {"x": "i32[2,3]", "slope": "i32[1] = 2", "because": "floating"},
    ],
)
def prelu_of_one_slope(x: Value, slope: Value) -> Term:
    """PRelu(x, one slope) = LeakyRelu(x)."""
    require_float(x)
    return op.LeakyRelu(x, alpha=slope.scalar)
