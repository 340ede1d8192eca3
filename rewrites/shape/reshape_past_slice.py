"""Reshapes move behind Slices along dimensions that they keep."""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var
from .cuts import cut_shape, read_cuts, write_cuts
from .reshape_past_normalization import kept_axis
from .reshaping import reshape_expression, reshaped

x, t, s, e, c, p = var("x t s e c p")


@rule(
    op.Slice(op.Reshape(x, t), s, e, c),
    op.Slice(op.Reshape(x, t), s, e, c, p),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {
            "x": "f32[2,3,8]",
            "t": "i64[2] = 6 8",
            "s": "i64[1] = 1",
            "e": "i64[1] = 5",
            "c": "i64[1] = -1",
            "p": "i64[1] = 2",
        },
        {
            "x": "f32[n,8]",
            "t": "i64[3] = 0 8 1",
            "s": "i64[1] = 1",
            "e": "i64[1] = 5",
            "c": "i64[1] = 1",
            "p": "i64[1] = 1",
        },
    ],
    refuse={
        "x": "f32[2,12]",
        "t": "i64[3] = 2 3 4",
        "s": "i64[1] = 1",
        "e": "i64[1] = 3",
        "c": "i64[1] = 2",
        "pattern": 0,
        "because": "not kept",
    },
)
def reshape_past_slice(x: Value, t: Value, s: Value, e: Value, c: Value, p: Value | None, root: Value) -> Term:
    """Slice(Reshape(x)) = Reshape(Slice(x)) along dimensions that are kept."""
    target = reshaped(x, t)
    cuts = {kept_axis(x.shape, target, axis): cut for axis, cut in read_cuts(target, s, e, c, p).items()}
    sliced = write_cuts(x, x.shape, cuts)
    if isinstance(sliced, Value):
        return op.Reshape(sliced, t)
    return reshape_expression(sliced, cut_shape(x.shape, cuts), root.shape)
