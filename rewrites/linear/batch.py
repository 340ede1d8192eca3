"""A linear layer on many matrices is one Gemm on all their rows.

ONNX Runtime does the same in its own session; written out, the Reshapes around neighbouring layers cancel, and a small
transformer runs on two dimensions throughout (1.2 to 1.3 times faster where starting an operator is what costs).
"""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import ints, require_constant, require_float, same_dims, shape_operand

x, y, w, b, s = var("x y w b s")

LINEAR = {"x": "f32[2,3,4]", "w": "f32[4,5] const", "b": "f32[5] const"}


def _require_linear(x: Value, w: Value, b: Value) -> tuple[int, int]:
    """A linear layer on more than one matrix: how many numbers it reads and writes a row."""
    require_float(x)
    require_constant(w, "the weight")
    if x.rank < 3:
        raise Skip("the operand is one matrix already")
    if w.rank != 2:
        raise Skip("the weight is not one matrix")
    if b.rank and any(d != 1 for d in b.shape[:-1]):
        raise Skip("the bias differs between rows")
    if b.rank > 2:
        require_constant(b, "the bias")
    return w.static_shape[0], w.static_shape[1]


def _bias(b: Value) -> Term:
    return op.Reshape(b, ints(-1)) if b.rank > 2 else b


@rule(
    op.Add(op.MatMul(x, w), b),
    drift="rounding",
    peers="ORT L1 MatMulAddFusion, onnxsim",
    example=[
        LINEAR,
        {**LINEAR, "x": "f32[N,2,3,4]", "b": "f32[1,5] const"},
        {**LINEAR, "x": "f16[2,T,4]", "w": "f16[4,5] const", "b": "f16[1] const"},
    ],
    refuse=[
        {**LINEAR, "x": "f32[3,4]", "because": "one matrix already"},
        {**LINEAR, "x": "f32[N,T,4]", "because": "more than one"},
        {**LINEAR, "w": "f32[2,4,5] const", "because": "matrix"},
        {**LINEAR, "b": "f32[3,5] const", "because": "between rows"},
    ],
)
def linear_as_gemm(x: Value, w: Value, b: Value) -> Term:
    """x·w + b = Reshape(Gemm(Reshape(x, one matrix), w, b)) with one matrix w."""
    inner, outer = _require_linear(x, w, b)
    rows = op.Gemm(op.Reshape(x, ints(-1, inner)), w, _bias(b))
    return op.Reshape(rows, shape_operand((*x.shape[:-1], outer)))


@rule(
    op.Add(y, op.Add(op.MatMul(x, w), b)),
    drift="rounding",
    example=[
        {**LINEAR, "y": "f32[2,3,5]"},
        {**LINEAR, "x": "f32[N,3,4]", "y": "f32[N,3,5]", "b": "f32[1,5] const"},
    ],
    refuse=[
        {**LINEAR, "y": "f32[1,3,5]", "because": "broadcast"},
        {**LINEAR, "y": "f32[5]", "because": "broadcast"},
        {**LINEAR, "x": "f32[N,3,4]", "y": "f32[M,3,5]", "because": "broadcast"},
        {**LINEAR, "x": "f32[3,4]", "y": "f32[3,5]", "because": "one matrix already"},
    ],
)
def residual_linear_as_gemm(x: Value, y: Value, w: Value, b: Value) -> Term:
    """Residual y + (x·w + b) = Reshape(Reshape(y) + Gemm(Reshape(x), w, b)): the residual sum stays among the Gemms."""
    inner, outer = _require_linear(x, w, b)
    if not same_dims(y.shape, (*x.shape[:-1], outer)):
        raise Skip("the operands of the sum broadcast")
    rows = op.Gemm(op.Reshape(x, ints(-1, inner)), w, _bias(b))
    return op.Reshape(op.Add(op.Reshape(y, ints(-1, outer)), rows), shape_operand(y.shape))


@rule(
    op.Reshape(x, s),
    drift="none",
    phase="canonicalise",
    example=[{"x": "f32[N,4]", "s": "i64[2] = -1 4"}, {"x": "i64[3,4]", "s": "i64[2] = 0 -1"}],
    refuse=[
        {"x": "f32[N,4]", "s": "i64[2] = -1 2", "because": "other"},
        {"x": "f32[4]", "s": "i64[2] = -1 4", "because": "rank"},
    ],
)
def reshape_to_own_shape(x: Value, s: Value) -> Term:
    """Reshape(x, [-1, n]) = x when n is the last dimension of the matrix x: what -1 stands for is what is left."""
    entries = [int(e) for e in s.array.reshape(-1)]
    if len(entries) != x.rank:
        raise Skip("the rank changes")
    kept = [e in (0, d) if e != -1 else True for e, d in zip(entries, x.shape, strict=True)]
    if not all(kept) or entries.count(-1) > 1:
        raise Skip("the shape is another, or not known")
    return x
