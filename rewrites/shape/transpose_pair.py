"""Two transposes in a row become one."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var

x, p, q = var("x p q")


@rule(
    op.Transpose(op.Transpose(x, perm=p), perm=q),
    drift="none",
    phase="canonicalise",
    peers="ORT, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[2,3,5]", "p": (1, 2, 0), "q": (2, 0, 1)},
        {"x": "i64[2,3,5]", "p": (1, 2, 0), "q": (1, 2, 0)},
        {"x": "f32[2,3]", "p": None, "q": None},
    ],
)
def transpose_pair(x: Value, p: tuple[int, ...] | None, q: tuple[int, ...] | None) -> Term:
    """Transpose(Transpose(x, p), q) = Transpose(x, p∘q), and x itself when p∘q is the identity."""
    back = tuple(reversed(range(x.rank)))
    first, second = p or back, q or back
    both = tuple(first[i] for i in second)
    return x if both == tuple(range(len(both))) else op.Transpose(x, perm=both)
