"""Gathers whose indices lie in a row are Slices, and Slices of one element are Gathers."""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Dim
from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from .axes import positive
from .boxes import box_of
from .cuts import END, Cut, cut_shape, read_cuts, write_cuts
from .dimensions import same_shape
from .reshaping import reshape, reshape_expression

x, i, k, s, e, a, t = var("x i k s e a t")


@rule(
    op.Gather(x, i, axis=k),
    drift="none",
    phase="canonicalise",
    peers="ORT L2 GatherToSlice (one axis), onnxsim",
    example=[
        {"x": "f32[4,5]", "i": "i64[] = 2", "k": 1},
        {"x": "f32[4,5]", "i": "i64[] = -1", "k": 0},
        {"x": "f32[n,5]", "i": "i64[1] = -1", "k": 0},
        {"x": "f32[n,5]", "i": "i64[] = -2", "k": 0},
        {"x": "i64[4,5]", "i": "i32[3] = 1 2 3", "k": 1},
        {"x": "f32[4,9]", "i": "i64[3] = 1 3 5", "k": -1},
        {"x": "f32[2,1,3]", "i": "i64[1,1] = 0", "k": 1},
        {"x": "f32[2,6]", "i": "i64[2,3] = 0 1 2 3 4 5", "k": 1},
    ],
    refuse=[
        {"x": "f32[4,5]", "i": "i64[3] = 2 1 0", "k": 1, "because": "in a row"},
        {"x": "f32[4,5]", "i": "i64[2] = 1 1", "k": 1, "because": "in a row"},
        {"x": "f32[4,5]", "i": "i64[2]", "k": 1, "because": "not a constant"},
        {"x": "f32[n,5]", "i": "i64[2] = 0 -1", "k": 0, "because": "in a row"},
    ],
)
def gather_as_slice(x: Value, i: Value, k: int, root: Value) -> Term:
    """Gather(x, [a, a+1, …, b-1], axis) = Slice(x, a, b), reshaped where the index is no vector."""
    axis = positive(k, x.rank)
    size = x.shape[axis]
    cut = _row(i.array.reshape(-1).tolist(), size)
    cuts = {axis: cut}
    sliced = write_cuts(x, x.shape, cuts)
    if i.rank == 1:
        return sliced
    if not isinstance(sliced, Expression):
        return reshape(x, root.shape)
    return reshape_expression(sliced, cut_shape(x.shape, cuts), root.shape)


def _row(indices: list[int], size: Dim) -> Cut:
    """The cut that takes just these, in this order."""
    if isinstance(size, int):
        indices = [j + size if j < 0 else j for j in indices]
        if any(not 0 <= j < size for j in indices):
            raise Skip("an index is out of range")
    steps = set(np.diff(indices).tolist())
    step = steps.pop() if steps else 1
    if not indices or steps or step <= 0:
        raise Skip("the indices do not lie in a row")
    if indices[0] < 0 <= indices[-1]:
        raise Skip("the indices do not lie in a row")
    end = indices[-1] + 1
    return indices[0], END if indices[-1] == -1 else end, int(step)


@rule(
    op.Reshape(op.Slice(x, s, e, a), t),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[4,5,6]", "s": "i64[1] = 2", "e": "i64[1] = 3", "a": "i64[1] = 1", "t": "i64[2] = 4 6"},
        {"x": "f32[n,5,6]", "s": "i64[1] = 2", "e": "i64[1] = 3", "a": "i64[1] = 1", "t": "i64[2] = 0 6"},
    ],
    refuse=[
        {"x": "f32[4,5]", "s": "i64[1] = 2", "e": "i64[1] = 4", "a": "i64[1] = 1", "t": "i64[1] = 8", "because": "one"},
        {
            "x": "f32[4,5]",
            "s": "i64[1] = 2",
            "e": "i64[1] = 3",
            "a": "i64[1] = 1",
            "t": "i64[2] = 2 2",
            "because": "more than",
        },
    ],
)
def slice_as_gather(x: Value, s: Value, e: Value, a: Value, root: Value) -> Term:
    """Reshape(Slice(x, i, i+1), without that axis) = Gather(x, i, axis)."""
    cuts = read_cuts(x.shape, s, e, a, None)
    if len(cuts) != 1:
        raise Skip("more than one axis is cut")
    ((axis, (start, end, _)),) = cuts.items()
    if end - start != 1 and (start, end) != (-1, END):
        raise Skip("more than one element is taken")
    if not same_shape((*x.shape[:axis], *x.shape[axis + 1 :]), root.shape):
        raise Skip("the Reshape does more than drop that axis")
    return op.Gather(x, np.asarray(start, dtype=np.int64), axis=axis)


@rule(
    op.GatherND(x, i),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        # what torch.vmap makes of mask[batch, key]
        {"x": "b[2,3]", "i": "i64[2,1,1,3,2] = 0 0 0 1 0 2 1 0 1 1 1 2"},
        {"x": "f32[4,3]", "i": "i64[2,1] = 1 2"},
        {"x": "f32[1,4,n]", "i": "i64[3,2] = 0 1 0 2 0 3"},
    ],
    refuse=[
        {"x": "f32[4,3]", "i": "i64[2,1] = 2 1", "because": "no box"},
        {"x": "f32[n,3]", "i": "i64[2,1] = 0 1", "because": "not known"},
    ],
)
def gather_nd_as_slice(x: Value, i: Value, root: Value) -> Term:
    """GatherND(x, every index from a to b) = Slice(x, a, b), reshaped."""
    cuts = {axis: (start, end, 1) for axis, (start, end) in enumerate(box_of(i.array, x.shape))}
    sliced = write_cuts(x, x.shape, cuts)
    if not isinstance(sliced, Expression):
        return reshape(x, root.shape)
    return reshape_expression(sliced, cut_shape(x.shape, cuts), root.shape)
