"""Axes and permutations as rules need them: counted from the front, checked, inverted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Skip, Value

Permutation = tuple[int, ...]


def positive(axis: int, rank: int) -> int:
    """The axis counted from the front.

    Raises:
        Skip: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise Skip("an axis does not exist")
    return axis % rank


def positives(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Several axes counted from the front, in rising order."""
    return tuple(sorted(positive(int(axis), rank) for axis in axes))


def constant_axes(axes: Value | None, rank: int) -> tuple[int, ...]:
    """The contents of an `axes` input; all axes when there is none, ONNX's meaning of an absent or empty one."""
    if axes is None or axes.uid == 0:
        return tuple(range(rank))
    return positives(axes.array.reshape(-1).tolist(), rank) or tuple(range(rank))


def permutation(perm: Sequence[int] | None, rank: int) -> Permutation:
    """A Transpose's permutation; ONNX's default reverses."""
    return tuple(reversed(range(rank))) if perm is None else positives_in_order(perm, rank)


def positives_in_order(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Several axes counted from the front, in the order given."""
    return tuple(positive(int(axis), rank) for axis in axes)


def inverse(perm: Permutation) -> Permutation:
    """The permutation that undoes this one."""
    return tuple(perm.index(i) for i in range(len(perm)))


def is_identity(perm: Permutation) -> bool:
    """Whether a permutation leaves every axis in its place."""
    return perm == tuple(range(len(perm)))


def ints(*numbers: int) -> Array:
    """A vector of 64-bit integers: the form of axes, shapes, starts and ends."""
    return np.asarray(numbers, dtype=np.int64)
