"""A linear layer on many matrices is one Gemm on all their rows.

ONNX Runtime does the same in its own session; written out, the Reshapes around neighbouring layers cancel, and a small
transformer runs on two dimensions throughout (1.2 to 1.3 times faster where starting an operator is what costs).
"""

from __future__ import annotations

from ...compiler.facts import Array, Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import ints, require_constant, require_float

x, y, w, b, s = var("x y w b s")

LINEAR = {"x": "f32[2,3,4]", "w": "f32[4,5] const", "b": "f32[5] const"}


def _shape(dims: tuple[Dim, ...]) -> Array:
    """A shape as Reshape takes it, -1 for the one dimension that may be unknown.

    Raises:
        Skip: more are.
    """
    if sum(not isinstance(d, int) for d in dims) > 1:
        raise Skip("more than one dimension is not known")
    if 0 in dims:
        raise Skip("the operand is empty")
    return ints(*(d if isinstance(d, int) else -1 for d in dims))


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
    require_float(x)
    require_constant(w, "the weight")
    if x.rank < 3:
        raise Skip("the operand is one matrix already")
    if w.rank != 2:
        raise Skip("the weight is not one matrix")
    inner, outer = w.static_shape
    if b.rank and any(d != 1 for d in b.shape[:-1]):
        raise Skip("the bias differs between rows")
    if b.rank > 2:
        require_constant(b, "the bias")
    bias: Term = op.Reshape(b, ints(-1)) if b.rank > 2 else b
    result = _shape((*x.shape[:-1], outer))
    return op.Reshape(op.Gemm(op.Reshape(x, ints(-1, inner)), w, bias), result)


@rule(
    op.Add(y, op.Reshape(x, s)),
    drift="none",
    example=[
        {"x": "f32[6,4]", "y": "f32[2,3,4]", "s": "i64[3] = 2 3 4"},
        {"x": "f16[6,4]", "y": "f16[2,3,4]", "s": "i64[3] = -1 3 4"},
    ],
    refuse=[
        {"x": "f32[6,4]", "y": "f32[1,3,4]", "s": "i64[3] = 2 3 4", "because": "broadcast"},
        {"x": "f32[2,12]", "y": "f32[2,3,4]", "s": "i64[3] = 2 3 4", "because": "rows"},
    ],
)
def sum_of_rows(x: Value, y: Value, root: Value) -> Term:
    """Y + Reshape(x, as y) = Reshape(Reshape(y, as the matrix x) + x): a residual sum stays among the Gemms."""
    if x.rank != 2 or y.rank < 3:
        raise Skip("the operands are not rows and what they belong to")
    columns = x.shape[1]
    if not isinstance(columns, int) or y.shape[-1] != columns:
        raise Skip("the rows are not those of the other operand")
    if y.shape != root.shape:
        raise Skip("the operands broadcast")
    rows = op.Reshape(y, ints(-1, columns))
    return op.Reshape(op.Add(rows, x), _shape(root.shape))


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
