"""A factor after a matrix product with a constant goes into the constant, and into the bias between them."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import along, ints, require_constant, require_divisor, require_factor, require_float

x, w, b, s = var("x w b s")

RIGHT = {"x": "f32[2,3,4]", "w": "f32[4,5] const", "b": "f32[5] const"}
LEFT = {"x": "f32[5,4] const", "w": "f32[2,4,3]", "b": "f32[5,1] const"}
product = op.MatMul(x, w)
shifted = op.Add(product, b)


def _by_column(x: Value, w: Value, s: Value) -> Term:
    """The factor of every column of w, or of every row of x: whichever is the constant."""
    require_float(x)
    rank = max(x.rank, w.rank)
    if min(x.rank, w.rank) < 2:
        raise Skip("an operand is a vector")
    if w.is_const:
        return along(s, rank - 1, (*(None,) * (rank - 1), w.shape[-1]))
    require_constant(x, "the weight")
    rows = along(s, rank - 2, (*(None,) * (rank - 2), x.shape[-2], None))
    return op.Reshape(rows, ints(-1, 1))


def _bias(b: Value | None, x: Value, w: Value) -> Value | None:
    if b is None:
        return None
    require_constant(b, "the bias")
    if b.rank > max(x.rank, w.rank):
        raise Skip("the bias adds a dimension")
    return b


@rule(
    op.Mul(product, s),
    op.Mul(shifted, s),
    drift="rounding",
    peers="onnxslim (after Gemm)",
    example=[
        {**RIGHT, "s": "f32[5] const"},
        {**RIGHT, "s": "f32[] = 0.125", "b": "f32[3,5] const"},
        {**LEFT, "s": "f32[5,1] const"},
        {**LEFT, "s": "f32[1] = 3"},
        {"x": "f16[N,4]", "w": "f16[4,5] const", "b": "f16[1] const", "s": "f16[1,5] const"},
    ],
    refuse=[
        {**RIGHT, "s": "f32[3,1] const", "because": "another axis"},
        {**RIGHT, "s": "f32[5]", "because": "computed"},
        {**RIGHT, "w": "f32[4,5]", "s": "f32[5] const", "because": "the weight is computed"},
        {**RIGHT, "s": "f32[1] = inf", "because": "not finite"},
        {"x": "i32[2,4]", "w": "i32[4,5] const", "b": "i32[5] const", "s": "i32[5] const", "because": "floating-point"},
    ],
)
def scale_after_matmul(x: Value, w: Value, b: Value | None, s: Value) -> Term:
    """(x·w + b)·s = x·(w·s) + b·s for a number s per column of the constant w (per row of a constant x)."""
    require_factor(s)
    vector, bias = _by_column(x, w, s), _bias(b, x, w)
    scaled = op.MatMul(x, op.Mul(w, vector)) if w.is_const else op.MatMul(op.Mul(x, vector), w)
    return scaled if bias is None else op.Add(scaled, op.Mul(bias, s))


@rule(
    op.Div(product, s),
    op.Div(shifted, s),
    drift="rounding",
    example=[
        {**RIGHT, "s": "f32[5] = 1 2 3 4 5"},
        {**RIGHT, "s": "f32[] = 8"},
        {**LEFT, "s": "f32[5,1] = 1 2 3 4 5"},
    ],
    refuse=[{**RIGHT, "s": "f32[5] = 1 0 1 1 1", "because": "zeros"}],
)
def divisor_after_matmul(x: Value, w: Value, b: Value | None, s: Value) -> Term:
    """(x·w + b)/s = x·(w/s) + b/s for a number s per column of the constant w (per row of a constant x)."""
    require_divisor(s)
    vector, bias = _by_column(x, w, s), _bias(b, x, w)
    scaled = op.MatMul(x, op.Div(w, vector)) if w.is_const else op.MatMul(op.Div(x, vector), w)
    return scaled if bias is None else op.Add(scaled, op.Div(bias, s))


@rule(
    op.Neg(product),
    op.Neg(shifted),
    drift="rounding",
    example=[RIGHT, LEFT],
    refuse={**RIGHT, "w": "f32[4,5]", "because": "computed"},
)
def negated_matmul(x: Value, w: Value, b: Value | None) -> Term:
    """-(x·w + b) = x·(-w) + (-b)."""
    require_float(x)
    bias = _bias(b, x, w)
    if w.is_const:
        turned = op.MatMul(x, op.Neg(w))
    else:
        require_constant(x, "the weight")
        turned = op.MatMul(op.Neg(x), w)
    return turned if bias is None else op.Add(turned, op.Neg(bias))
