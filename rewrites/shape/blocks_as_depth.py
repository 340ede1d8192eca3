"""DepthToSpace and SpaceToDepth, recognised from the reshapes and transposes that exporters write for them."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var

x, s, t, p = var("x s t p")


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
