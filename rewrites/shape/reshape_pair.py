"""Two Reshapes in a row become one."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .reshaping import infers, reshape

x, s, t, z, w = var("x s t z w")


@rule(
    op.Reshape(op.Reshape(x, s, allowzero=z), t, allowzero=w),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 ReshapeFusion, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "t": "i64[3] = 2 3 4"},
        {"x": "i64[2,3,4]", "s": "i64[2] = 6 4", "t": "i64[2] = 3 -1", "w": 1},
        {"x": "f32[n,6]", "s": "i64[3] = 0 2 3", "t": "i64[2] = 0 -1"},
        {"x": "f32[n,m]", "s": "i64[1] = -1", "t": "i64[3] = 2 -1 2"},
    ],
    refuse={"x": "f32[n,m]", "s": "i64[1] = -1", "t": "i64[3]", "because": "more than one"},
)
def reshape_pair(x: Value, t: Value, root: Value) -> Term:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), and x when that is its shape."""
    try:
        return reshape(x, root.shape, inferring=infers(t))
    except Skip:
        # Numbers and one -1 say all about the result, whatever they are applied to.
        if not t.every(lambda entries: bool((entries != 0).all())):
            raise
        return op.Reshape(x, t)
