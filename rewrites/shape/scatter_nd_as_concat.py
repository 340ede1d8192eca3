"""ScatterND that writes a block: the block itself, or what stands around it joined to it."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .boxes import box_of
from .cuts import write_cuts
from .reshaping import reshape

x, i, u = var("x i u")


@rule(
    op.ScatterND(x, i, u),
    drift="none",
    phase="canonicalise",
    peers="onnxscript redundant_scatter_nd (the whole tensor only)",
    example=[
        {"x": "f32[2,3]", "i": "i64[2,1] = 0 1", "u": "f32[2,3]"},
        {"x": "i64[4,3]", "i": "i64[2,1] = 1 2", "u": "i64[2,3]"},
        {"x": "f32[3,2]", "i": "i64[1,1] = -1", "u": "f32[1,2]"},
        # the second column
        {"x": "f32[2,3]", "i": "i64[2,1,2] = 0 1 1 1", "u": "f32[2,1]"},
    ],
    refuse=[
        {"x": "f32[4,3]", "i": "i64[2,1] = 2 1", "u": "f32[2,3]", "because": "no box"},
        {"x": "f32[n,3]", "i": "i64[2,1] = 0 1", "u": "f32[2,3]", "because": "not known"},
        {"x": "f32[4,3]", "i": "i64[1,2] = 1 1", "u": "f32[1]", "because": "several axes"},
    ],
)
def scatter_nd_as_concat(x: Value, i: Value, u: Value) -> Term:
    """ScatterND(x, every index from a to b, u) = Concat(x[:a], u, x[b:]), and u when that is all of x."""
    box = box_of(i.array, x.shape)
    sizes = [end - start for start, end in box]
    block = reshape(u, (*sizes, *x.shape[len(box) :]))
    cut = [axis for axis, size in enumerate(sizes) if size != x.shape[axis]]
    if not cut:
        return block
    if len(cut) > 1:
        raise Skip("the block is smaller along several axes")
    axis = cut[0]
    start, end = box[axis]
    size = x.shape[axis]
    assert isinstance(size, int)
    before = [write_cuts(x, x.shape, {axis: (0, start, 1)})] if start else []
    after = [write_cuts(x, x.shape, {axis: (end, size, 1)})] if end < size else []
    return op.Concat(*before, block, *after, axis=axis)
