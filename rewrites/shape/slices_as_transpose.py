"""Every second pixel of rows and columns, four Slices joined along the channels, is a transpose of blocks."""

from __future__ import annotations

from itertools import product
from typing import Any

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints, positive
from .cuts import read_cuts

x, k, axes, steps = var("x k axes steps")
starts, ends = var("s0 s1 s2 s3"), var("e0 e1 e2 e3")

FOCUS = ("0 0", "1 0", "0 1", "1 1")  # down first, as YOLOv5 and Swin have it


def _example(shape: str, axes: str, joined: int, end: str, corners: tuple[str, ...] = FOCUS) -> dict[str, Any]:
    named = {f"s{i}": f"i64[2] = {corner}" for i, corner in enumerate(corners)}
    named |= {f"e{i}": f"i64[2] = {end}" for i in range(4)}
    return {"x": shape, "k": joined, "axes": f"i64[2] = {axes}", "steps": "i64[2] = 2 2", **named}


@rule(
    op.Concat(*(op.Slice(x, s, e, axes, steps) for s, e in zip(starts, ends, strict=True)), axis=k),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 SliceConcatToSpaceToDepthFusion (channels first)",
    example=[
        _example("f32[1,3,4,6]", "2 3", 1, "4 6"),  # the Focus layer of YOLOv5
        _example("f32[n,4,6,3]", "1 2", -1, "4 6"),  # patch merging of Swin, channels last
        _example("f32[1,3,4,6]", "2 3", 1, "4 6", ("0 0", "0 1", "1 0", "1 1")),
    ],
    refuse=[
        _example("f32[1,3,4,6]", "2 3", 1, "4 6", ("0 0", "0 0", "0 1", "1 1")) | {"because": "do not cover"},
        _example("f32[1,3,4,6]", "2 3", 1, "3 6") | {"because": "do not cover"},
        _example("f32[1,3,4,6]", "2 3", 1, "4 6", ("1 0", "0 0", "0 1", "1 1")) | {"because": "not in order"},
        _example("f32[1,3,5,6]", "2 3", 1, "4 6") | {"because": "odd"},
    ],
)
def slices_as_transpose(
    x: Value,
    k: int,
    axes: Value,
    steps: Value,
    s0: Value,
    s1: Value,
    s2: Value,
    s3: Value,
    e0: Value,
    e1: Value,
    e2: Value,
    e3: Value,
) -> Term:
    """Concat(x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]) = Reshape(Transpose(Reshape(x)))."""
    found = [read_cuts(x.shape, s, e, axes, steps) for s, e in ((s0, e0), (s1, e1), (s2, e2), (s3, e3))]
    joined, cut = positive(k, x.rank), sorted(found[0])
    if len(cut) != 2 or joined in cut or any(step != 2 for f in found for _, _, step in f.values()):
        raise Skip("the Slices do not take every second element of two axes")
    for axis in cut:
        size = x.shape[axis]
        if not isinstance(size, int) or size % 2:
            raise Skip("a cut dimension is odd, or not known")
        if any(end < size - 1 + start for start, end, _ in (f[axis] for f in found)):
            raise Skip("the Slices do not cover the value")
    corners = [tuple(f[axis][0] for axis in cut) for f in found]
    if sorted(corners) != list(product((0, 1), (0, 1))):
        raise Skip("the Slices do not cover the value")
    # Which of the two axes changes from one Slice to the next is the inner one of the new channels.
    down_first = corners == [(0, 0), (1, 0), (0, 1), (1, 1)]
    if not down_first and corners != sorted(corners):
        raise Skip("the Slices are not in order")
    return _blocks(x.shape, x, cut, joined, down_first)


def _blocks(shape: Shape, x: Value, cut: list[int], joined: int, down_first: bool) -> Term:
    """Every cut axis split in (half, 2), both 2 moved in front of the joined axis and merged with it."""
    split: list[Dim] = []
    merged: list[Dim] = []
    place: list[int] = []  # of each axis, or its half, in the split shape
    for axis, dim in enumerate(shape):
        place.append(len(split))
        halved = axis in cut and isinstance(dim, int)
        split += [dim // 2, 2] if halved and isinstance(dim, int) else [dim]
        merged.append(dim // 2 if halved and isinstance(dim, int) else dim)
    down, right = (place[axis] + 1 for axis in cut)
    merged[joined] = _times_four(shape[joined])
    order: list[int] = []
    for axis in range(len(shape)):
        order += [*((right, down) if down_first else (down, right)), place[axis]] if axis == joined else [place[axis]]
    blocks = op.Transpose(op.Reshape(x, _constant(shape, split)), perm=tuple(order))
    return op.Reshape(blocks, _constant(shape, merged))


def _times_four(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise Skip("a dimension is not known")
    return 4 * dim


def _constant(source: Shape, shape: list[Dim]) -> Any:
    """A Reshape's shape; 0 keeps a first dimension that is no number."""
    if any(not isinstance(d, int) for d in shape[1:]) or (shape[0] is None):
        raise Skip("a dimension is not known")
    return ints(*(d if isinstance(d, int) else 0 for d in shape))
