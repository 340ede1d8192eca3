"""HardSigmoid and HardSwish from their parts (Howard et al. 2019, arXiv:1905.02244)."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .constants import is_close, require_float, require_shape

x, a, b, h, f, low, high, alpha, beta = var("x a b h f low high alpha beta")


@rule(
    op.Div(op.Clip(op.Add(x, b), low, high), h),
    op.Mul(op.Clip(op.Add(x, b), low, high), f),
    drift="rounding",
    example=[
        {
            "x": "f32[2,8]",
            "b": "f32[] = 3",
            "low": "f32[] = 0",
            "high": "f32[] = 6",
            "h": "f32[] = 6",
            "f": "f32[] = 0.16666667",
        },
        {"x": "f32[2,8]", "b": "f32[1] = 1", "low": "f32[] = 0", "high": "f32[] = 2", "h": "f32[] = 2", "pattern": 0},
    ],
    refuse=[
        {
            "x": "f32[2,8]",
            "b": "f32[] = 3",
            "low": "f32[] = 0",
            "high": "f32[] = 6",
            "h": "f32[] = 5",
            "pattern": 0,
            "because": "not cut at",
        },
        {
            "x": "f32[2,8]",
            "b": "f32[8] const",
            "low": "f32[] = 0",
            "high": "f32[] = 6",
            "h": "f32[] = 6",
            "pattern": 0,
            "because": "different numbers",
        },
    ],
)
def hard_sigmoid(x: Value, b: Value, low: Value, high: Value, h: Value | None, f: Value | None, root: Value) -> Term:
    """Clip(x + b, 0, h) / h = HardSigmoid(x, 1/h, b/h)."""
    require_float(x)
    height = _height(x, low, high, h, f)
    require_shape(root, x)
    return op.HardSigmoid(x, alpha=1 / height, beta=b.scalar / height)


def _height(x: Value, low: Value, high: Value, h: Value | None, f: Value | None) -> float:
    """Where the clipped value is cut, which is also what it is divided by.

    Raises:
        Skip: these are not the same.
    """
    height = h.scalar if h is not None else 1 / f.scalar if f is not None and f.scalar else 0.0
    if low.scalar != 0 or not height > 0 or not is_close(height, high.scalar, x):
        raise Skip("the value is not cut at zero and at what it is divided by")
    return height


@rule(
    op.Clip(op.Add(op.Mul(x, a), b), low, high),
    op.Clip(op.Add(op.Div(x, h), b), low, high),
    drift="rounding",
    example=[
        {
            "x": "f32[2,8]",
            "a": "f32[] = 0.2",
            "h": "f32[] = 6",
            "b": "f32[] = 0.5",
            "low": "f32[] = 0",
            "high": "f32[] = 1",
        }
    ],
    refuse=[
        {
            "x": "f32[2,8]",
            "a": "f32[] = 0.2",
            "h": "f32[] = 6",
            "b": "f32[] = 0.5",
            "low": "f32[] = 0",
            "high": "f32[] = 2",
            "because": "cut at",
        }
    ],
)
def hard_sigmoid_of_line(
    x: Value, a: Value | None, h: Value | None, b: Value, low: Value, high: Value, root: Value
) -> Term:
    """Clip(a·x + b, 0, 1) = HardSigmoid(x, a, b)."""
    require_float(x)
    if low.scalar != 0 or high.scalar != 1:
        raise Skip("the value is not cut at zero and at one")
    slope = a.scalar if a is not None else 1 / h.scalar if h is not None and h.scalar else 0.0
    require_shape(root, x)
    return op.HardSigmoid(x, alpha=slope, beta=b.scalar)


@rule(
    op.Mul(x, op.HardSigmoid(x, alpha=alpha, beta=beta)),
    drift="rounding",
    peers="onnxscript (opt-in)",
    example={"x": "f32[2,8]", "alpha": 0.16666667, "beta": 0.5},
    refuse={"x": "f32[2,8]", "alpha": 0.2, "beta": 0.5, "because": "one sixth"},
)
def hard_swish(x: Value, alpha: float, beta: float) -> Term:
    """x·HardSigmoid(x, 1/6, 1/2) = HardSwish(x); ONNX Runtime's CPU takes it apart again."""
    if not is_close(alpha, 1 / 6, x) or beta != 0.5:
        raise Skip("the slope is not one sixth, or the shift not a half")
    return op.HardSwish(x)


@rule(
    op.Div(op.Mul(x, op.Clip(op.Add(x, b), low, high)), h),
    op.Mul(op.Mul(x, op.Clip(op.Add(x, b), low, high)), f),
    op.Mul(op.Clip(op.Add(x, b), low, high), op.Div(x, h)),
    op.Mul(op.Clip(op.Add(x, b), low, high), op.Mul(x, f)),
    drift="rounding",
    peers="onnxscript (opt-in)",
    example={
        "x": "f32[2,8]",
        "b": "f32[] = 3",
        "low": "f32[] = 0",
        "high": "f32[] = 6",
        "h": "f32[] = 6",
        "f": "f32[] = 0.16666667",
    },
    refuse={
        "x": "f32[2,8]",
        "b": "f32[] = 3",
        "low": "f32[] = 0",
        "high": "f32[] = 6",
        "h": "f32[] = 5",
        "f": "f32[] = 0.2",
        "because": "not cut at",
    },
)
def gated_by_hard_sigmoid(
    x: Value, b: Value, low: Value, high: Value, h: Value | None, f: Value | None, root: Value
) -> Term:
    """x·Clip(x + b, 0, h) / h = x·HardSigmoid(x, 1/h, b/h)."""
    require_float(x)
    height = _height(x, low, high, h, f)
    require_shape(root, x)
    return op.Mul(x, op.HardSigmoid(x, alpha=1 / height, beta=b.scalar / height))
