"""Where the units of a group lie along an axis: channels side by side, in runs, or repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from ...compiler.facts import Dim
from ...compiler.rule import Skip
from ...compiler.shapes.call import multiplied

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """An axis of outer · units · inner elements, element (o, u, i) belonging to unit u.

    Channels of NCHW are `Layout(1, C)`; after Flatten `Layout(1, C, inner=H·W)`; heads of a joined projection
    `Layout(2, heads, inner=size)`.
    """

    axis: int
    units: int
    inner: int = 1
    outer: int = 1

    @property
    def length(self) -> int:
        """Elements along the axis."""
        return self.outer * self.units * self.inner

    @property
    def each(self) -> int:
        """Elements along the axis that one unit has."""
        return self.outer * self.inner

    def at(self, axis: int) -> Layout:
        """The same along another axis."""
        return replace(self, axis=axis)

    def indices(self, kept: Indices) -> Indices:
        """Positions along the axis of these units, in order."""
        blocks = np.arange(self.length, dtype=np.int64).reshape(self.outer, self.units, self.inner)
        return blocks[:, kept].reshape(-1)


def regrouped(layout: Layout, before: Sequence[Dim], after: Sequence[Dim]) -> Layout:
    """Where the units lie after a Reshape.

    Args:
        layout: along an axis of the old shape.
        before: the old shape.
        after: the new one.

    Raises:
        Skip: the units do not stay apart, or some size is not known.
    """
    for start, stop, first, last in _factors(before, after):
        if not start <= layout.axis < stop:
            continue
        old, new = [_known(d) for d in before[start:stop]], [_known(d) for d in after[first:last]]
        place = layout.axis - start
        flat = replace(
            layout, outer=prod(old[:place]) * layout.outer, inner=layout.inner * prod(old[place + 1 :], start=1)
        )
        return _within(flat, new, first)
    raise Skip("a Reshape mixes dimensions that are not known")


def _within(flat: Layout, sizes: Sequence[int], first: int) -> Layout:
    for axis in range(len(sizes)):
        left, right = prod(sizes[:axis]), prod(sizes[axis + 1 :], start=1)
        if flat.outer % left == 0 and flat.inner % right == 0:
            found = Layout(first + axis, flat.units, flat.inner // right, flat.outer // left)
            if found.length == sizes[axis]:
                return found
    raise Skip("a Reshape does not keep the channels apart")


def _factors(before: Sequence[Dim], after: Sequence[Dim]) -> list[tuple[int, int, int, int]]:
    """Shortest runs of dimensions with equal products, as (start, stop) in both shapes."""
    found: list[tuple[int, int, int, int]] = []
    start = first = 0
    products = [multiplied(after[:last]) for last in range(len(after) + 1)]
    for stop in range(1, len(before) + 1):
        size = multiplied(before[:stop])
        if size is None:
            break
        last = next((n for n in range(first + 1, len(after) + 1) if products[n] == size), None)
        if last is not None:
            found.append((start, stop, first, last))
            start, first = stop, last
    return found


def _known(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise Skip("a dimension that is not known is reshaped")
    return dim
