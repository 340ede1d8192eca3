"""Constants that follow one another in a chain of sums or products are combined into one."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var
from .broadcasting import is_float, require_finite, require_float, require_moderate, require_no_growth

x, y, a, b = var("x y a b")


@rule(
    op.Mul(op.Mul(x, a), b),
    drift="rounding",
    phase="canonicalise",
    peers="onnxsim fuse_consecutive_mul",
    example=[
        {"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[1] = 0.3"},
        {"x": "f16[2,n,4]", "a": "f16[4] = 1.5 2 0.25 -1", "b": "f16[] = 0.5"},
        {"x": "i64[2,3]", "a": "i64[3] = 2 3 4", "b": "i64[] = 5"},
    ],
    refuse=[
        {"x": "f32[2]", "a": "f32[] = 1e30", "b": "f32[] = 1e30", "because": "too large"},
        {"x": "f32[2]", "a": "f32[] = 0.0", "b": "f32[] = 2", "because": "zero"},
        {"x": "f32[2,2]", "a": "f32[2]", "b": "f32[] = 2", "because": "not a constant"},
        {"x": "f32[2,2]", "a": "f32[2] = 1 2", "b": "f32[2,1] = 3 4", "because": "larger than either"},
    ],
)
def product_chain(x: Value, a: Value, b: Value) -> Term:
    """(x·a)·b = x·(a·b)."""
    _combinable(a, b, product=is_float(x))
    return op.Mul(x, op.Mul(a, b))


@rule(
    op.Add(op.Add(x, a), b),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[3] = 0.3 1 2"},
        {"x": "i32[2,3]", "a": "i32[3] = 2 3 4", "b": "i32[] = 5"},
    ],
    refuse=[
        {"x": "f32[2]", "a": "f32[] = -inf", "b": "f32[] = 1", "because": "not finite"},
        {"x": "f32[2]", "a": "f32[] = 1", "b": "f32[]", "because": "not a constant"},
        {"x": "f32[2,2]", "a": "f32[2] = 1 2", "b": "f32[2,1] = 3 4", "because": "larger than either"},
    ],
)
def sum_chain(x: Value, a: Value, b: Value) -> Term:
    """(x + a) + b = x + (a + b)."""
    _combinable(a, b, product=False)
    return op.Add(x, op.Add(a, b))


@rule(
    op.Mul(op.Mul(x, a), op.Mul(y, b)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[] = 2.5", "y": "f32[3]", "b": "f32[1] = 0.3"},
    refuse=[
        {"x": "f32[2]", "a": "f32[] = 2", "y": "f32[2]", "b": "f32[] = inf", "because": "not finite"},
        {"x": "f32[2]", "a": "f32[2] = 2 3", "y": "f32[2,2]", "b": "f32[2,1] = 2", "because": "larger than either"},
    ],
)
def product_of_scaled(x: Value, a: Value, y: Value, b: Value) -> Term:
    """(x·a)·(y·b) = (x·y)·(a·b)."""
    _combinable(a, b, product=is_float(x))
    return op.Mul(op.Mul(x, y), op.Mul(a, b))


@rule(
    op.Add(op.Add(x, a), op.Add(y, b)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[3] = 2.5 1 2", "y": "f32[2,3]", "b": "f32[1] = 0.3"},
    refuse={"x": "f32[2]", "a": "f32[] = 2", "y": "f32[2]", "b": "f32[] = 3e38", "because": "so large"},
)
def sum_of_shifted(x: Value, a: Value, y: Value, b: Value) -> Term:
    """(x + a) + (y + b) = (x + y) + (a + b)."""
    _combinable(a, b, product=False)
    return op.Add(op.Add(x, y), op.Add(a, b))


@rule(
    op.Mul(op.Add(x, a), b),
    drift="rounding",
    phase="explore",
    peers="",
    example=[
        {"x": "f32[2,3]", "a": "f32[3] = 2.5 1 2", "b": "f32[1] = 0.3"},
        {"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[3] = 0.3 1 2"},
    ],
    refuse=[
        {"x": "f32[2]", "a": "f32[] = 0", "b": "f32[] = 2", "because": "zero"},
        {"x": "f32[2]", "a": "f32[]", "b": "f32[] = 2", "because": "not a constant"},
        {"x": "f32[2,2]", "a": "f32[2] = 1 2", "b": "f32[2,1] = 3 4", "because": "larger than either"},
    ],
)
def scale_before_shift(x: Value, a: Value, b: Value) -> Term:
    """(x + a)·b = x·b + a·b: scales first, where they meet other scales, or a product's weights."""
    _combinable(a, b, product=is_float(x))
    return op.Add(op.Mul(x, b), op.Mul(a, b))


@rule(
    op.Add(op.Sub(a, x), b),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[3] = 0.3 1 2"},
        {"x": "i32[2,3]", "a": "i32[3] = 2 3 4", "b": "i32[] = 5"},
    ],
    refuse={"x": "f32[2]", "a": "f32[2]", "b": "f32[] = 1", "because": "not a constant"},
)
def constant_minus_plus(x: Value, a: Value, b: Value) -> Term:
    """(a − x) + b = (a + b) − x."""
    _combinable(a, b, product=False)
    return op.Sub(op.Add(a, b), x)


@rule(
    op.Sub(a, op.Add(x, b)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[3] = 2.5 1 2", "b": "f32[] = 0.3"},
    refuse={"x": "f32[2]", "a": "f32[] = 1", "b": "f32[] = inf", "because": "not finite"},
)
def constant_minus_sum(x: Value, a: Value, b: Value) -> Term:
    """A − (x + b) = (a − b) − x."""
    _combinable(a, b, product=False)
    return op.Sub(op.Sub(a, b), x)


@rule(
    op.Sub(a, op.Sub(b, x)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[3] = 2.5 1 2", "b": "f32[] = 0.3"},
    refuse={"x": "f32[2]", "a": "f32[] = 1", "b": "f32[2]", "because": "not a constant"},
)
def constant_minus_difference(x: Value, a: Value, b: Value) -> Term:
    """A − (b − x) = x + (a − b)."""
    _combinable(a, b, product=False)
    return op.Add(x, op.Sub(a, b))


@rule(
    op.Mul(op.Div(a, x), b),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[3] = 0.3 1 2"},
    refuse={"x": "i64[2]", "a": "i64[] = 7", "b": "i64[] = 2", "because": "floating"},
)
def scaled_quotient(x: Value, a: Value, b: Value) -> Term:
    """(a / x)·b = (a·b) / x."""
    require_float(x)
    _combinable(a, b, product=True)
    return op.Div(op.Mul(a, b), x)


@rule(
    op.Div(a, op.Mul(x, b)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3]", "a": "f32[] = 2.5", "b": "f32[3] = 0.3 1 2"},
    refuse=[
        {"x": "i64[2]", "a": "i64[] = 7", "b": "i64[] = 2", "because": "floating"},
        {"x": "f32[2]", "a": "f32[] = 7", "b": "f32[] = 0", "because": "zero"},
    ],
)
def quotient_of_scaled(x: Value, a: Value, b: Value) -> Term:
    """A / (x·b) = (a / b) / x."""
    require_float(x)
    _combinable(a, b, product=True)
    return op.Div(op.Div(a, b), x)


def _combinable(a: Value, b: Value, *, product: bool) -> None:
    if product:
        require_moderate(a, b)
    else:
        require_finite(a, b)
    require_no_growth(a, b)
