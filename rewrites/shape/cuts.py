"""What a Slice takes of each axis, read from its inputs and written back in one way.

A cut is (start, end, step) with a positive step. Where the size is known, start and end are within it; where it is not,
they are as ONNX reads them, and `END` stands for the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Expression, Skip, Term, Value, op
from .axes import ints, positives_in_order

Cut = tuple[int, int, int]
END = (1 << 63) - 1
BEYOND = (1 << 31) - 1  # exporters write "to the end" as any number from here
ADDRESSABLE = 1 << 48  # bytes a process can address


def read_cuts(shape: Shape, starts: Value, ends: Value, axes: Value | None, steps: Value | None) -> dict[int, Cut]:
    """The cuts of `Slice(x, starts, ends, axes, steps)` by axis.

    Args:
        shape: of what is cut.
        starts: constant.
        ends: constant.
        axes: constant, None for the first ones in order.
        steps: constant, None for ones.

    Raises:
        Skip: an input is not a constant, or a step is negative.
    """
    first, last = starts.array.reshape(-1).tolist(), ends.array.reshape(-1).tolist()
    where = range(len(first)) if axes is None else axes.array.reshape(-1).tolist()
    by = [1] * len(first) if steps is None else steps.array.reshape(-1).tolist()
    if any(step <= 0 for step in by):
        raise Skip("the Slice runs backwards")
    places = positives_in_order(where, len(shape))
    if len(set(places)) < len(places):
        raise Skip("an axis is cut twice")
    return {
        axis: _normal(int(a), int(b), int(c), shape, axis)
        for axis, a, b, c in zip(places, first, last, by, strict=True)
    }


def _normal(start: int, end: int, step: int, shape: Shape, axis: int) -> Cut:
    size = shape[axis]
    if isinstance(size, int):
        begin, stop, _ = slice(start, end, step).indices(size)
        return begin, max(begin, stop), step
    others = 1
    for place, dim in enumerate(shape):
        others *= dim if isinstance(dim, int) and place != axis else 1
    return start, END if end >= BEYOND or end * others >= ADDRESSABLE else end, step


def length(cut: Cut, size: Dim) -> Dim:
    """How many are left of an axis."""
    start, end, step = cut
    if start == 0 and step == 1 and end == END:
        return size
    known = isinstance(size, int) or (start >= 0 and 0 <= end < END and size is not None and end <= start)
    return -(-(end - start) // step) if known else None


def at_most(cut: Cut) -> int:
    """The largest number of elements a cut can leave of an axis of unknown size; `END` when there is no bound."""
    start, end, step = cut
    if end == END:
        return END if start >= 0 else -(start // step)
    return -(-(end - start) // step) if (start < 0) == (end < 0) else END


def is_whole(cut: Cut, size: Dim) -> bool:
    """Whether a cut takes the whole axis."""
    start, end, step = cut
    return start == 0 and step == 1 and end in (size, END)


def write_cuts(x: Value | Expression, shape: Shape, cuts: Mapping[int, Cut]) -> Term:
    """The Slice with these cuts; the value itself when nothing is cut off."""
    kept = {axis: cut for axis, cut in sorted(cuts.items()) if not is_whole(cut, shape[axis])}
    if not kept:
        return x
    vectors = [ints(*(cut[part] for cut in kept.values())) for part in range(3)]
    steps = [vectors[2]] if any(cut[2] != 1 for cut in kept.values()) else []
    return op.Slice(x, vectors[0], vectors[1], ints(*kept), *steps)


def cut_shape(shape: Shape, cuts: Mapping[int, Cut]) -> Shape:
    """The shape after cutting; None where it is not known."""
    return tuple(length(cuts[i], d) if i in cuts else d for i, d in enumerate(shape))
