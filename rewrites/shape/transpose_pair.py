"""Two transposes in a row become one; one that moves nothing, or only dimensions of size 1, is none."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import is_identity, permutation
from .reshaping import reshape

x, p, q = var("x p q")


@rule(
    op.Transpose(op.Transpose(x, perm=p), perm=q),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 TransposeOptimizer, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[2,3,5]", "p": (1, 2, 0), "q": (2, 0, 1)},
        {"x": "i64[2,3,5]", "p": (1, 2, 0), "q": (1, 2, 0)},
        {"x": "f32[2,n]", "p": None, "q": None},
    ],
)
def transpose_pair(x: Value, p: tuple[int, ...] | None, q: tuple[int, ...] | None) -> Term:
    """Transpose(Transpose(x, p), q) = Transpose(x, p∘q), and x itself when p∘q is the identity."""
    first, second = permutation(p, x.rank), permutation(q, x.rank)
    both = tuple(first[i] for i in second)
    return x if is_identity(both) else op.Transpose(x, perm=both)


@rule(
    op.Transpose(x, perm=p),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 TransposeOptimizer, onnxsim",
    example=[
        {"x": "f32[2,n]", "p": (0, 1)},
        {"x": "f32[5]", "p": None},
        {"x": "i64[2,1,3]", "p": (1, 0, 2)},
        {"x": "f16[n,1,1,4]", "p": (0, 3, 1, 2)},
        {"x": "b[1,n,4]", "p": (1, 0, 2)},
    ],
    refuse={"x": "f32[2,n]", "p": None, "because": "larger than one"},
)
def transpose_as_reshape(x: Value, p: tuple[int, ...] | None) -> Term:
    """Transpose(x, p) = Reshape(x) when only dimensions of size 1 move, and x when none does."""
    perm, shape = permutation(p, x.rank), x.shape
    if is_identity(perm):
        return x
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved != sorted(moved):
        raise Skip("dimensions larger than one change places")
    return reshape(x, tuple(shape[axis] for axis in perm))
