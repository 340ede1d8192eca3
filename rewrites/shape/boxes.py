"""Constant indices of GatherND and ScatterND that enumerate a box of their tensor, element by element in order."""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Array, Shape
from ...compiler.rule import Skip

Box = tuple[tuple[int, int], ...]


def box_of(indices: Array, shape: Shape) -> Box:
    """The (start, end) of each indexed axis.

    Args:
        indices: of shape (…, axes indexed).
        shape: of the indexed tensor.

    Raises:
        Skip: the indices are anything else, or out of range.
    """
    depth = indices.shape[-1]
    flat = indices.reshape(-1, depth).astype(np.int64)
    sizes = [d for d in shape[:depth] if isinstance(d, int)]
    if len(flat) == 0 or depth == 0 or len(sizes) < depth:
        raise Skip("a dimension of the indexed tensor is not known")
    flat = np.where(flat < 0, flat + np.asarray(sizes), flat)
    first, last = flat.min(axis=0), flat.max(axis=0)
    if (first < 0).any() or (last >= sizes).any():
        raise Skip("an index is out of range")
    extent = last - first + 1
    if int(np.prod(extent)) != len(flat):
        raise Skip("the indices are no box of the tensor")
    wanted = np.indices(tuple(extent)).reshape(depth, -1).T + first
    if not np.array_equal(flat, wanted):
        raise Skip("the indices are no box of the tensor")
    return tuple((int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
