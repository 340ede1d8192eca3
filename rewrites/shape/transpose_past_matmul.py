"""Transposes move behind matrix products, or into them."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import Permutation, permutation

x, y, w, p, q, c, a, b, t, u = var("x y w p q c a b t u")


@rule(
    op.MatMul(op.Transpose(x, perm=p), w),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 TransposeOptimizer",
    example=[
        {"x": "f32[2,3,4]", "p": (1, 0, 2), "w": "f32[4,5] const"},
        {"x": "f32[2,4,3]", "p": (0, 2, 1), "w": "f32[4,5] const"},
        {"x": "f32[4,n]", "p": None, "w": "f32[4,5] const"},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "p": (1, 0, 2), "w": "f32[3,4,5]", "because": "not a matrix"},
        {"x": "f32[2,4,3]", "p": (0, 2, 1), "w": "f32[4,5]", "because": "Transpose of its own"},
        {"x": "f32[4,2,3]", "p": (2, 1, 0), "w": "f32[4,5] const", "because": "batch"},
    ],
)
def transpose_past_matmul(x: Value, p: Permutation | None, w: Value) -> Term:
    """MatMul(Transpose(x), w) = Transpose(MatMul(x, w)), or Transpose(MatMul(wᵀ, x)) when the matrices turn."""
    perm = permutation(p, x.rank)
    _is_matrix(w)
    if perm[-1] == x.rank - 1:
        return op.Transpose(op.MatMul(x, w), perm=perm)
    _turns_matrices(perm, w)
    return op.Transpose(op.MatMul(op.Transpose(w, perm=(1, 0)), x), perm=perm)


@rule(
    op.MatMul(w, op.Transpose(x, perm=p)),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 TransposeOptimizer",
    example=[
        {"x": "f32[2,3,4,5]", "p": (1, 0, 2, 3), "w": "f32[6,4]"},
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "w": "f32[5,4] const"},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "w": "f32[5,4]", "because": "Transpose of its own"},
        {"x": "f32[2,3,4]", "p": (1, 2, 0), "w": "f32[5,4] const", "because": "batch"},
    ],
)
def transpose_past_matmul_right(x: Value, p: Permutation | None, w: Value) -> Term:
    """MatMul(w, Transpose(x)) = Transpose(MatMul(w, x)), or Transpose(MatMul(x, wᵀ)) when the matrices turn."""
    perm = permutation(p, x.rank)
    _is_matrix(w)
    if perm[-2:] == (x.rank - 2, x.rank - 1):
        return op.Transpose(op.MatMul(w, x), perm=perm)
    _turns_matrices(perm, w)
    return op.Transpose(op.MatMul(x, op.Transpose(w, perm=(1, 0))), perm=perm)


def _is_matrix(w: Value) -> None:
    if w.rank != 2:
        raise Skip("the other operand is not a matrix")


def _turns_matrices(perm: Permutation, w: Value) -> None:
    """Raise Skip unless the last two dimensions change places, and only they."""
    rank = len(perm)
    if perm != (*range(rank - 2), rank - 1, rank - 2):
        raise Skip("a batch dimension is moved into the matrices")
    if not w.is_const:
        raise Skip("the other operand would need a Transpose of its own")


@rule(
    op.MatMul(op.Transpose(x, perm=p), op.Transpose(y, perm=q)),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 TransposeOptimizer",
    example=[
        {"x": "f32[2,3,4,5]", "y": "f32[2,3,5,6]", "p": (1, 0, 2, 3), "q": (1, 0, 2, 3)},
        {"x": "f32[2,5,4]", "y": "f32[2,6,5]", "p": (0, 2, 1), "q": (0, 2, 1)},
        {"x": "f32[5,4]", "y": "f32[6,5]", "p": None, "q": (1, 0)},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "y": "f32[5,4]", "p": (0, 1, 2), "q": (1, 0), "because": "rank"},
        {"x": "f32[3,2,5]", "y": "f32[3,5,2]", "p": (1, 0, 2), "q": (2, 1, 0), "because": "differently"},
        {"x": "f32[5,3,2]", "y": "f32[6,3,5]", "p": (1, 2, 0), "q": (1, 2, 0), "because": "batch"},
    ],
)
def transpose_past_matmul_of_both(x: Value, y: Value, p: Permutation | None, q: Permutation | None) -> Term:
    """MatMul(Transpose(x, p), Transpose(y, p)) = Transpose(MatMul(x, y), p), the factors swapped when matrices turn."""
    if x.rank != y.rank:
        raise Skip("the operands are of different rank")
    perm, rank = permutation(p, x.rank), x.rank
    if perm != permutation(q, rank):
        raise Skip("the operands are transposed differently")
    if perm[-2:] == (rank - 2, rank - 1):
        return op.Transpose(op.MatMul(x, y), perm=perm)
    if perm[-2:] == (rank - 1, rank - 2):
        return op.Transpose(op.MatMul(y, x), perm=perm)
    raise Skip("a batch dimension is moved into the matrices")


@rule(
    op.Gemm(op.Transpose(x, perm=p), y, alpha=a, beta=b, transA=t, transB=u),
    op.Gemm(op.Transpose(x, perm=p), y, c, alpha=a, beta=b, transA=t, transB=u),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 GemmTransposeFusion, onnxoptimizer",
    example=[
        {"x": "f32[4,3]", "p": None, "y": "f32[4,5]", "c": "f32[5]", "a": 0.5, "b": 2.0, "t": 0, "u": 0},
        {"x": "f32[3,4]", "p": (1, 0), "y": "f32[5,4]", "c": "f32[]", "a": 1.0, "b": 1.0, "t": 1, "u": 1},
    ],
    refuse={
        "x": "f32[3,4]",
        "p": (0, 1),
        "y": "f32[4,5]",
        "c": "f32[]",
        "a": 1.0,
        "b": 1.0,
        "t": 0,
        "u": 0,
        "because": "moves nothing",
    },
)
def transpose_into_gemm(
    x: Value, p: Permutation | None, y: Value, c: Value | None, a: float, b: float, t: int, u: int
) -> Term:
    """Gemm(Transpose(x), y, transA) = Gemm(x, y, not transA)."""
    _turns(x, p)
    return op.Gemm(x, y, c, alpha=a, beta=b, transA=1 - t, transB=u)


@rule(
    op.Gemm(y, op.Transpose(x, perm=p), alpha=a, beta=b, transA=t, transB=u),
    op.Gemm(y, op.Transpose(x, perm=p), c, alpha=a, beta=b, transA=t, transB=u),
    drift="rounding",
    phase="canonicalise",
    peers="ORT L1 GemmTransposeFusion, onnxoptimizer",
    example={"x": "f32[5,4]", "p": (1, 0), "y": "f32[3,4]", "c": "f32[5]", "a": 0.5, "b": 2.0, "t": 0, "u": 0},
    refuse={
        "x": "f32[4,5]",
        "p": (0, 1),
        "y": "f32[3,4]",
        "c": "f32[]",
        "a": 1.0,
        "b": 1.0,
        "t": 0,
        "u": 0,
        "because": "moves nothing",
    },
)
def transpose_into_gemm_right(
    x: Value, p: Permutation | None, y: Value, c: Value | None, a: float, b: float, t: int, u: int
) -> Term:
    """Gemm(y, Transpose(x), transB) = Gemm(y, x, not transB)."""
    _turns(x, p)
    return op.Gemm(y, x, c, alpha=a, beta=b, transA=t, transB=1 - u)


def _turns(x: Value, p: Permutation | None) -> None:
    if permutation(p, x.rank) != (1, 0):
        raise Skip("the Transpose moves nothing")
