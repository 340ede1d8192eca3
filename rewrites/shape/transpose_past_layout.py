"""Transposes move behind operators that cut, join, pad and repeat along axes: only the axes change."""

from __future__ import annotations

from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import Permutation, constant_axes, ints, permutation, positive, positives_in_order
from .elementwise import declare

x, y, z, w, p, k, sizes, starts, ends, axes, steps, pads, value, mode, repeats, index, i = var(
    "x y z w p k sizes starts ends axes steps pads value mode repeats index i"
)
PEERS = "ORT L1 TransposeOptimizer"


@rule(
    op.Concat(op.Transpose(x, perm=p), op.Transpose(y, perm=p), axis=k),
    op.Concat(op.Transpose(x, perm=p), op.Transpose(y, perm=p), op.Transpose(z, perm=p), axis=k),
    op.Concat(
        op.Transpose(x, perm=p), op.Transpose(y, perm=p), op.Transpose(z, perm=p), op.Transpose(w, perm=p), axis=k
    ),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example=[
        {"x": "f32[2,3,4]", "y": "f32[2,1,4]", "z": "f32[2,5,4]", "w": "f32[2,2,4]", "p": (0, 2, 1), "k": -1},
        {"x": "i64[n,4]", "y": "i64[n,4]", "z": "i64[n,4]", "w": "i64[n,4]", "p": None, "k": 0},
    ],
)
def transpose_past_concat(x: Value, y: Value, z: Value | None, w: Value | None, p: Permutation | None, k: int) -> Term:
    """Concat(Transpose(x, p), Transpose(y, p), axis) = Transpose(Concat(x, y, axis'), p)."""
    perm = permutation(p, x.rank)
    operands = [v for v in (x, y, z, w) if v is not None]
    return op.Transpose(op.Concat(*operands, axis=perm[positive(k, x.rank)]), perm=perm)


@rule(
    op.Slice(op.Transpose(x, perm=p), starts, ends),
    op.Slice(op.Transpose(x, perm=p), starts, ends, axes),
    op.Slice(op.Transpose(x, perm=p), starts, ends, axes, steps),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={
        "x": "f32[3,4,5]",
        "p": (2, 0, 1),
        "starts": "i64[2] = 1 0",
        "ends": "i64[2] = 4 2",
        "axes": "i64[2] = 0 -1",
        "steps": "i64[2] = 2 1",
    },
    refuse={
        "x": "f32[3,4,5]",
        "p": (2, 0, 1),
        "pattern": 1,
        "starts": "i64[1] = 1",
        "ends": "i64[1] = 2",
        "axes": "i64[1]",
        "because": "not a constant",
    },
)
def transpose_past_slice(
    x: Value, p: Permutation | None, starts: Value, ends: Value, axes: Value | None, steps: Value | None
) -> Term:
    """Slice(Transpose(x), axes) = Transpose(Slice(x, axes'))."""
    perm = permutation(p, x.rank)
    # Without axes, starts and ends are those of the first axes in order.
    stated = range(_count(starts)) if axes is None else axes.array.reshape(-1).tolist()
    moved = ints(*(perm[axis] for axis in positives_in_order(stated, x.rank)))
    return op.Transpose(op.Slice(x, starts, ends, moved, steps), perm=perm)


def _count(starts: Value) -> int:
    return starts.static_shape[0]


def _split(count: int) -> Rule:

    def past(x: Value, p: Permutation | None, sizes: Value | None, k: int, n: int | None, i: int) -> Term:
        perm = permutation(p, x.rank)
        axis = perm[positive(k, x.rank)]
        parts = op.Split(x, sizes, axis=axis, num_outputs=n, outputs=count)
        return op.Transpose(parts.out(i), perm=perm)

    n = var("n")
    split = op.Split(op.Transpose(x, perm=p), sizes, axis=k, outputs=count)
    equal = op.Split(op.Transpose(x, perm=p), axis=k, num_outputs=n, outputs=count)
    return declare(
        past,
        f"transpose_past_split_in_{count}",
        "Split(Transpose(x), axis) = Transpose(Split(x, axis')), each part.",
        split.out(i),
        equal.out(i),
        drift="none",
        phase="canonicalise",
        peers=PEERS,
        example={
            "x": f"f32[2,{count},3]",
            "p": (0, 2, 1),
            "sizes": f"i64[{count}] = 1",
            "k": 2,
            "n": count,
            "i": count - 1,
        },
    )


@rule(
    op.Pad(op.Transpose(x, perm=p), pads, mode=mode),
    op.Pad(op.Transpose(x, perm=p), pads, value, mode=mode),
    op.Pad(op.Transpose(x, perm=p), pads, value, axes, mode=mode),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example=[
        {
            "x": "f32[3,4,5]",
            "p": (0, 2, 1),
            "pads": "i64[6] = 0 1 0 2 0 1",
            "value": "f32[] = 2",
            "axes": "i64[3] = 0 1 2",
            "mode": "constant",
        },
        {
            "x": "f32[3,4,5]",
            "p": (0, 2, 1),
            "pads": "i64[4] = 1 2 0 1",
            "value": None,
            "axes": "i64[2] = 2 0",
            "mode": "edge",
            "pattern": 2,
        },
    ],
    refuse={"x": "f32[3,4]", "p": None, "pads": "i64[4]", "mode": "edge", "pattern": 0, "because": "not a constant"},
)
def transpose_past_pad(
    x: Value, p: Permutation | None, pads: Value, value: Value | None, axes: Value | None, mode: str
) -> Term:
    """Pad(Transpose(x), pads) = Transpose(Pad(x, pads'))."""
    perm = permutation(p, x.rank)
    stated = constant_axes(None, x.rank) if axes is None else positives_in_order(axes.array.reshape(-1), x.rank)
    amounts, count = pads.array.reshape(-1), len(stated)
    before, after = [0] * x.rank, [0] * x.rank
    for place, axis in enumerate(stated):
        before[perm[axis]], after[perm[axis]] = int(amounts[place]), int(amounts[place + count])
    return op.Transpose(op.Pad(x, ints(*before, *after), value, mode=mode), perm=perm)


@rule(
    op.Tile(op.Transpose(x, perm=p), repeats),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example={"x": "f32[2,3,4]", "p": (2, 0, 1), "repeats": "i64[3] = 1 2 3"},
    refuse={"x": "f32[2,3]", "p": None, "repeats": "i64[2]", "because": "not a constant"},
)
def transpose_past_tile(x: Value, p: Permutation | None, repeats: Value) -> Term:
    """Tile(Transpose(x), repeats) = Transpose(Tile(x, repeats'))."""
    perm, counts = permutation(p, x.rank), repeats.array.reshape(-1).tolist()
    return op.Transpose(op.Tile(x, ints(*(counts[perm.index(axis)] for axis in range(x.rank)))), perm=perm)


@rule(
    op.Gather(op.Transpose(x, perm=p), index, axis=k),
    drift="none",
    phase="canonicalise",
    peers=PEERS,
    example=[
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "index": "i64[] = 1", "k": 2},
        {"x": "f32[2,3,4]", "p": (2, 0, 1), "index": "i64[2,2] = 1 0", "k": -1},
        {"x": "f32[2,3,4]", "p": (2, 0, 1), "index": "i64[1] = 1", "k": 0},
    ],
)
def transpose_past_gather(x: Value, p: Permutation | None, index: Value, k: int) -> Term:
    """Gather(Transpose(x), i, axis) = Transpose(Gather(x, i, axis'))."""
    perm = permutation(p, x.rank)
    place, count = positive(k, x.rank), index.rank
    axis = perm[place]
    # The gathered dimension becomes as many as the index has, which stay together.
    start = {old: old if old < axis else old + count - 1 for old in range(x.rank) if old != axis}
    order = [
        *(start[old] for old in perm[:place]),
        *range(axis, axis + count),
        *(start[old] for old in perm[place + 1 :]),
    ]
    if order == list(range(len(order))):
        return op.Gather(x, index, axis=axis)
    return op.Transpose(op.Gather(x, index, axis=axis), perm=tuple(order))


@rule(
    op.CumSum(op.Transpose(x, perm=p), k, exclusive=mode, reverse=i),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3,4]", "p": (0, 2, 1), "k": "i64[] = -1", "mode": 0, "i": 1},
    refuse={"x": "f32[2,3]", "p": None, "k": "i64[]", "mode": 0, "i": 0, "because": "not a constant"},
)
def transpose_past_cum_sum(x: Value, p: Permutation | None, k: Value, mode: int, i: int) -> Term:
    """CumSum(Transpose(x), axis) = Transpose(CumSum(x, axis'))."""
    perm = permutation(p, x.rank)
    if k.array.size != 1:
        raise Skip("the axis is not one number")
    axis = perm[positive(int(k.array.reshape(-1)[0]), x.rank)]
    return op.Transpose(op.CumSum(x, ints(axis).reshape(k.array.shape), exclusive=mode, reverse=i), perm=perm)


RULES: tuple[Rule, ...] = (
    transpose_past_concat,
    transpose_past_slice,
    *map(_split, (2, 3, 4)),
    transpose_past_pad,
    transpose_past_tile,
    transpose_past_gather,
    transpose_past_cum_sum,
)
