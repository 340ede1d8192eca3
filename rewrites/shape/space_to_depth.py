"""Blocks of an image and its channels, recognised from the slices, reshapes and transposes exporters write."""

from __future__ import annotations

from itertools import product

from ...compiler.facts import Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints, positive
from .cuts import read_cuts

x, k, r, s, t, p = var("x k r s t p")
STARTS = ("s0", "s1", "s2", "s3")
ENDS = ("e0", "e1", "e2", "e3")
starts, ends = [var(n) for n in STARTS], [var(n) for n in ENDS]
axes, steps = var("axes steps")


@rule(
    op.Concat(*(op.Slice(x, s, e, axes, steps) for s, e in zip(starts, ends, strict=True)), axis=k),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 SliceConcatToSpaceToDepthFusion (channels first)",
    example=[
        # the Focus layer of YOLOv5
        {
            "x": "f32[1,3,4,6]",
            "k": 1,
            "axes": "i64[2] = 2 3",
            "steps": "i64[2] = 2 2",
            "s0": "i64[2] = 0 0",
            "s1": "i64[2] = 1 0",
            "s2": "i64[2] = 0 1",
            "s3": "i64[2] = 1 1",
            "e0": "i64[2] = 4 6",
            "e1": "i64[2] = 4 6",
            "e2": "i64[2] = 4 6",
            "e3": "i64[2] = 4 6",
        },
        # patch merging of Swin, channels last
        {
            "x": "f32[n,4,6,3]",
            "k": -1,
            "axes": "i64[2] = 1 2",
            "steps": "i64[2] = 2 2",
            "s0": "i64[2] = 0 0",
            "s1": "i64[2] = 1 0",
            "s2": "i64[2] = 0 1",
            "s3": "i64[2] = 1 1",
            "e0": "i64[2] = 4 6",
            "e1": "i64[2] = 4 6",
            "e2": "i64[2] = 4 6",
            "e3": "i64[2] = 4 6",
        },
    ],
    refuse={
        "x": "f32[1,3,4,6]",
        "k": 1,
        "axes": "i64[2] = 2 3",
        "steps": "i64[2] = 2 2",
        "s0": "i64[2] = 0 0",
        "s1": "i64[2] = 0 0",
        "s2": "i64[2] = 0 1",
        "s3": "i64[2] = 1 1",
        "e0": "i64[2] = 4 6",
        "e1": "i64[2] = 4 6",
        "e2": "i64[2] = 4 6",
        "e3": "i64[2] = 4 6",
        "because": "do not cover",
    },
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
    sizes = [x.shape[axis] for axis in cut]
    if any(not isinstance(d, int) or d % 2 for d in sizes):
        raise Skip("a cut dimension is odd, or not known")
    offsets = [tuple(f[axis][0] for axis in cut) for f in found]
    if sorted(offsets) != list(product((0, 1), (0, 1))) or any(
        f[axis][1] < size - 1 + f[axis][0]
        for f in found
        for axis, size in zip(cut, sizes, strict=True)
        if isinstance(size, int)
    ):
        raise Skip("the Slices do not cover the value")
    # Whichever axis changes faster from one Slice to the next is the inner one of the new channels.
    inner = 0 if offsets[1] == (1, 0) else 1
    if offsets != [_offset(n, inner) for n in range(4)]:
        raise Skip("the Slices are not in order")
    return _blocks(x, cut, joined, inner)


def _offset(number: int, inner: int) -> tuple[int, int]:
    fast, slow = number % 2, number // 2
    return (fast, slow) if inner == 0 else (slow, fast)


def _blocks(x: Value, cut: list[int], joined: int, inner: int) -> Term:
    """Every cut axis as (rest, 2), its 2 moved before the joined axis."""
    shape: list[int] = []
    rest: list[int] = []  # where each axis of x stands in the split shape
    twos: list[int] = []
    for axis, dim in enumerate(x.shape):
        rest.append(len(shape))
        if axis not in cut:
            shape.append(_entry(x.shape, dim, axis, len(shape)))
            continue
        assert isinstance(dim, int)
        twos.append(len(shape) + 1)
        shape += [dim // 2, 2]
    slow, fast = twos[1 - inner], twos[inner]
    order = [
        place for axis in range(x.rank) for place in ((slow, fast, rest[axis]) if axis == joined else (rest[axis],))
    ]
    result = [
        dim // 2
        if axis in cut and isinstance(dim, int)
        else (4 * dim if axis == joined and isinstance(dim, int) else dim)
        for axis, dim in enumerate(x.shape)
    ]
    split = op.Transpose(op.Reshape(x, ints(*shape)), perm=tuple(order))
    return op.Reshape(split, ints(*(_entry(x.shape, d, axis, axis) for axis, d in enumerate(result))))


def _entry(source: tuple[Dim, ...], dim: Dim, axis: int, place: int) -> int:
    """The entry of a Reshape's shape: a number, or 0 for a first dimension that is kept."""
    if isinstance(dim, int):
        return dim
    if axis == place == 0 and dim is not None:
        return 0
    raise Skip("a dimension is not known")


@rule(
    op.Reshape(op.Transpose(op.Reshape(x, s), perm=p), t),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        # torch.nn.PixelShuffle(2)
        {"x": "f32[1,12,3,4]", "s": "i64[6] = 1 3 2 2 3 4", "p": (0, 1, 4, 2, 5, 3), "t": "i64[4] = 1 3 6 8"},
        {"x": "f32[n,12,3,4]", "s": "i64[6] = -1 2 2 3 3 4", "p": (0, 3, 4, 1, 5, 2), "t": "i64[4] = -1 3 6 8"},
        # torch.nn.PixelUnshuffle(2), but for the order of the channels
        {"x": "f32[1,3,6,8]", "s": "i64[6] = 1 3 3 2 4 2", "p": (0, 3, 5, 1, 2, 4), "t": "i64[4] = 1 12 3 4"},
    ],
    refuse=[
        {
            "x": "f32[1,12,3,4]",
            "s": "i64[6] = 1 3 2 2 3 4",
            "p": (0, 1, 4, 3, 5, 2),
            "t": "i64[4] = 1 3 6 8",
            "because": "no blocks",
        },
        {
            "x": "f32[1,12,3,4]",
            "s": "i64[6] = 1 2 3 2 3 4",
            "p": (0, 1, 4, 2, 5, 3),
            "t": "i64[4] = 1 2 9 8",
            "because": "square",
        },
    ],
)
def blocks_as_depth(x: Value, s: Value, p: tuple[int, ...] | None, t: Value, root: Value) -> Term:
    """Reshape(Transpose(Reshape(x))) = DepthToSpace(x) or SpaceToDepth(x) where blocks of pixels become channels."""
    split = [int(d) for d in s.array.reshape(-1)]
    if x.rank != 4 or root.rank != 4 or len(split) != 6:
        raise Skip("no blocks of an image are moved")
    _, channels, height, width = x.shape
    if not (isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)):
        raise Skip("a dimension is not known")
    wanted = root.shape
    for order, depth_first in (((0, 1, 4, 2, 5, 3), False), ((0, 3, 4, 1, 5, 2), True)):
        block = split[1] if depth_first else split[2]
        if p == order and split[1:] == _deep(channels, height, width, block, depth_first):
            if wanted[1:] != (channels // block**2, height * block, width * block):
                raise Skip("no blocks of an image are moved")
            return op.DepthToSpace(x, blocksize=block, mode="DCR" if depth_first else "CRD")
    block = split[3]
    flat = [channels, height // block, block, width // block, block]
    if (
        p == (0, 3, 5, 1, 2, 4)
        and split[1:] == flat
        and wanted[1:] == (channels * block**2, height // block, width // block)
    ):
        return op.SpaceToDepth(x, blocksize=block)
    raise Skip("no blocks of an image are moved, or they are not square")


def _deep(channels: int, height: int, width: int, block: int, depth_first: bool) -> list[int]:
    rest = channels // block**2
    return [block, block, rest, height, width] if depth_first else [rest, block, block, height, width]
