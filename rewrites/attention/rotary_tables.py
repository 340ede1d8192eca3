"""The cosines and sines of rotary position embedding, brought from how exporters write them to RotaryEmbedding's form.

x·cos + swap(x)·sin uses tables as wide as a head, in which every number stands twice, as [c c] (rotate-half) or
pairwise (interleaved), and every sine with both signs. RotaryEmbedding takes each number once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.facts import Array, Dim
from ...compiler.rule import Expression, Skip, Term, Value, op
from ..shape.axes import ints
from ..shape.dimensions import pad_rank, same_dim
from .operands import require_kernel_dtype, require_not_empty, require_number


def swap_index(size: int, *, interleaved: bool) -> Array:
    """Where each entry of a head comes from when its halves, or its neighbours, change places."""
    places = np.arange(size, dtype=np.int64)
    return places.reshape(-1, 2)[:, ::-1].reshape(-1).copy() if interleaved else np.roll(places, -(size // 2))


def is_interleaved(index: Array, size: int) -> bool:
    """Which of the two swaps an index makes.

    Raises:
        Skip: neither.
    """
    if size and size % 2 == 0 and index.shape == (size,):
        for interleaved in (True, False):
            if np.array_equal(index, swap_index(size, interleaved=interleaved)):
                return interleaved
    raise Skip("neither halves nor neighbours change places")


def parts(table: Array, *, interleaved: bool) -> tuple[Array, Array]:
    """What is multiplied with the first and with the second entry of every pair."""
    half = table.shape[-1] // 2
    return (table[..., 0::2], table[..., 1::2]) if interleaved else (table[..., :half], table[..., half:])


def second_part(table: Value, size: int, *, interleaved: bool) -> Term:
    """The part of a table that stands with the second entries."""
    if interleaved:
        return op.Slice(table, ints(1), ints(size), ints(-1), ints(2))
    return op.Slice(table, ints(size // 2), ints(size), ints(-1))


def rotated(x: Value | Expression, dims: tuple[Dim, ...], tables: Tables, *, interleaved: bool) -> Expression:
    """RotaryEmbedding of (batch, heads, length, size), (batch, length, heads, size) or (batch, length, size).

    Args:
        x: what is rotated.
        dims: its shape.
        tables: cosines and sines, which broadcast along the heads.
        interleaved: whether neighbours are rotated rather than halves.

    Raises:
        Skip: the tables do not fit any of the three layouts.
    """
    attributes = {"interleaved": 1} if interleaved else {}
    if len(dims) == 3:
        return op.RotaryEmbedding(x, *tables.caches(x, dims[0], dims[1], None), num_heads=1, **attributes)
    if len(dims) != 4:
        raise Skip("what is rotated is not of rank 3 or 4")
    padded = pad_rank(tables.shape, 4)
    if padded[1] == 1:
        return op.RotaryEmbedding(x, *tables.caches(x, dims[0], dims[2], 1), **attributes)
    if padded[2] != 1:
        raise Skip("the tables differ between heads")
    heads = require_number(dims[2], "the number of heads")
    size = require_number(dims[3], "the size of a head")
    caches = tables.caches(x, dims[0], dims[1], 2)
    joined = op.Reshape(x, ints(0, 0, heads * size))
    return op.Reshape(op.RotaryEmbedding(joined, *caches, num_heads=heads, **attributes), ints(0, 0, heads, size))


class Tables:
    """Cosines and sines, each number once.

    Args:
        cos: of the given shape.
        sin: of the given shape.
        shape: broadcasts against what is rotated, but for the last dimension, which is half as wide.
    """

    def __init__(self, cos: Term, sin: Term, shape: Sequence[Dim]) -> None:
        self.cos, self.sin, self.shape = cos, sin, tuple(shape)

    def caches(self, x: Value | Expression, batch: Dim, length: Dim, head_axis: int | None) -> tuple[Term | Array, ...]:
        """RotaryEmbedding's inputs after the first: (batch, length, half) twice, or (length, half) and position_ids.

        ONNX Runtime wants tables for every row of the batch; where all rows share one, positions 0, 1, … are smaller.

        Args:
            x: what is rotated, its batch in front.
            batch: its batch.
            length: its length.
            head_axis: of the tables padded to rank 4; None where there are no heads.

        Raises:
            Skip: a dimension is not known to be that of what is rotated.
        """
        rank = 3 if head_axis is None else 4
        padded = pad_rank(self.shape, rank)
        theirs, long, half = (d for axis, d in enumerate(padded) if axis != head_axis)
        if not same_dim(long, length) or not isinstance(half, int):
            raise Skip("the tables are not known to be as long as what is rotated")
        if not same_dim(theirs, batch) and theirs != 1:
            raise Skip("the tables are not known to have the batch of what is rotated")
        skipped = rank - len(self.shape)
        heads = [] if head_axis is None or head_axis < skipped else [head_axis - skipped]
        if same_dim(theirs, batch):
            return tuple(_ranked(t, heads, len(self.shape), 3) for t in (self.cos, self.sin))
        if not isinstance(length, int):
            counts = op.Concat(op.Shape(x, start=0, end=1), ints(1, 1), axis=0)
            return tuple(op.Expand(_ranked(t, heads, len(self.shape), 3), counts) for t in (self.cos, self.sin))
        front = [0] if skipped == 0 else []
        tables = tuple(_ranked(t, [*front, *heads], len(self.shape), 2) for t in (self.cos, self.sin))
        return *tables, _positions(x, batch, length)


def _ranked(table: Term, dropped: Sequence[int], rank: int, wanted: int) -> Term:
    """A table of some rank without some axes of size 1, and with new ones in front up to the rank that is wanted."""
    left = rank - len(dropped)
    short = op.Squeeze(table, ints(*dropped)) if dropped else table
    return op.Unsqueeze(short, ints(*range(wanted - left))) if left < wanted else short


def _positions(x: Value | Expression, batch: Dim, length: int) -> Term | Array:
    row = np.arange(length, dtype=np.int64)[None]
    if isinstance(batch, int):
        return np.repeat(row, batch, axis=0)
    return op.Expand(row, op.Concat(op.Shape(x, start=0, end=1), ints(1), axis=0))


def require_rotatable(x: Value) -> None:
    """Refuse what RotaryEmbedding has no kernel for.

    Raises:
        Skip: another dtype than float32 and float16, or empty.
    """
    require_kernel_dtype(x)
    require_not_empty(x)
