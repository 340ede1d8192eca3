"""A Slice of a Concat picks the parts it lies in."""

from __future__ import annotations

from ...compiler.facts import Shape
from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from .axes import positive
from .cuts import Cut, read_cuts, write_cuts

s, e, a, p, k = var("s e a p k")


@rule(
    op.Slice(op.Concat(Rest("parts"), axis=k), s, e, a),
    op.Slice(op.Concat(Rest("parts"), axis=k), s, e, a, p),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {
            "parts": ("f32[2,3]", "f32[2,4]", "f32[2,1]"),
            "k": 1,
            "s": "i64[1] = 3",
            "e": "i64[1] = 7",
            "a": "i64[1] = -1",
            "p": "i64[1] = 1",
        },
        {
            "parts": ("i64[2,3]", "i64[2,4]"),
            "k": 1,
            "s": "i64[2] = 4 0",
            "e": "i64[2] = 6 1",
            "a": "i64[2] = 1 0",
            "p": "i64[2] = 1 1",
        },
        {
            "parts": ("f32[3]", "f32[4]", "f32[n]"),
            "k": 0,
            "s": "i64[1] = 0",
            "e": "i64[1] = 7",
            "a": "i64[1] = 0",
            "p": "i64[1] = 1",
        },
    ],
    refuse=[
        {
            "parts": ("f32[3]", "f32[4]"),
            "k": 0,
            "s": "i64[1] = 1",
            "e": "i64[1] = 5",
            "a": "i64[1] = 0",
            "pattern": 0,
            "because": "parts of several",
        },
        {
            "parts": ("f32[n]", "f32[4]"),
            "k": 0,
            "s": "i64[1] = 1",
            "e": "i64[1] = 5",
            "a": "i64[1] = 0",
            "pattern": 0,
            "because": "not known",
        },
        {
            "parts": ("f32[2,3]", "f32[2,4]"),
            "k": 1,
            "s": "i64[1] = 1",
            "e": "i64[1] = 2",
            "a": "i64[1] = 0",
            "pattern": 0,
            "because": "another axis",
        },
    ],
)
def slice_of_concat(
    parts: tuple[Value, ...], k: int, s: Value, e: Value, a: Value, p: Value | None, root: Value
) -> Term:
    """Slice(Concat(x, y, …)) = Slice(y), or the Concat of the parts that are taken whole."""
    axis = positive(k, root.rank)
    taken, cuts = parts_taken(parts, axis, s, e, a, p)
    if len(taken) == len(parts):
        raise Skip("parts of several operands are taken")
    if len(taken) == 1:
        part, cut, _ = taken[0]
        return write_cuts(part, part.shape, {axis: cut, **cuts})
    if any(cut[:2] != (0, part.shape[axis]) for part, cut, _ in taken):
        raise Skip("parts of several operands are taken")
    return write_cuts(op.Concat(*(part for part, _, _ in taken), axis=axis), joined_shape(parts, axis), cuts)


def joined_shape(parts: tuple[Value, ...], axis: int) -> Shape:
    """The shape of a Concat, None along the axis where that is not known."""
    sizes = [part.shape[axis] for part in parts]
    total = sum(d for d in sizes if isinstance(d, int)) if all(isinstance(d, int) for d in sizes) else None
    return (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])


def parts_taken(
    parts: tuple[Value, ...], axis: int, s: Value, e: Value, a: Value | None, p: Value | None
) -> tuple[list[tuple[Value, Cut, int]], dict[int, Cut]]:
    """The operands of a Concat that a Slice reaches: each, its cut, and where it begins; then the other axes' cuts.

    Args:
        parts: of the Concat.
        axis: it joins along.
        s: starts.
        e: ends.
        a: axes.
        p: steps.

    Raises:
        Skip: another axis alone is cut, or it is not known where the parts begin.
    """
    # The other axes' cuts are read on the parts themselves.
    cuts = read_cuts(joined_shape(parts, axis), s, e, a, p)
    if axis not in cuts:
        raise Skip("another axis is cut")
    start, end, step = cuts.pop(axis)
    if step != 1 or start < 0 or end < start:
        raise Skip("the parts' sizes are not known as far as the Slice goes")
    taken: list[tuple[Value, Cut, int]] = []
    offset = 0
    for part in parts:
        if offset >= end:
            break
        size = part.shape[axis]
        if not isinstance(size, int):
            raise Skip("the parts' sizes are not known as far as the Slice goes")
        if offset + size > start:
            taken.append((part, (max(0, start - offset), min(size, end - offset), 1), offset))
        offset += size
    if not taken:
        raise Skip("no part is taken")
    return taken, cuts
