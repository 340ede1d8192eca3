"""What the rules for normalisations share: which axes they run over, and which factors are their scale."""

from __future__ import annotations

from math import prod

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op
from .constants import array_of


def reduced_axes(x: Value, axes: Value) -> tuple[int, ...]:
    """The axes of a reduction, counted from the front, rising.

    Raises:
        Skip: they are not known.
    """
    rank = x.rank
    found = sorted({int(a) % rank if rank else 0 for a in axes.array.reshape(-1)})
    if not found:
        raise Skip("no axes are stated")
    return tuple(found)


def sizes(x: Value, axes: tuple[int, ...]) -> tuple[int, ...]:
    """How long the axes are.

    Raises:
        Skip: one of them is not known.
    """
    found = tuple(d for d in (x.shape[a] for a in axes) if isinstance(d, int))
    if len(found) != len(axes):
        raise Skip("the size of a normalised axis is not known")
    return found


def elements(x: Value, axes: tuple[int, ...]) -> int:
    """How many numbers one reduction over the axes takes.

    Raises:
        Skip: that is not known, or none.
    """
    count = prod(sizes(x, axes))
    if count == 0:
        raise Skip("the reduction is over nothing")
    return count


def to_the_end(rank: int, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The permutation that brings the axes to the end; None where they are there."""
    rest = tuple(a for a in range(rank) if a not in axes)
    return None if axes == tuple(range(rank - len(axes), rank)) else (*rest, *axes)


def inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(int(i) for i in np.argsort(permutation))


def ones(shape: tuple[int, ...], like: Value) -> Array:
    """The scale that changes nothing."""
    return array_of(1.0, like, shape)


def positive(number: Value | None) -> float:
    """The small number under the root, 0 where there is none.

    Raises:
        Skip: it is not one number of at least 0.
    """
    found = 0.0 if number is None else number.scalar
    if not found >= 0:
        raise Skip("the number under the root is negative")
    return found


def as_scale(w: Value, rank: int, normalised: tuple[int, ...]) -> Term:
    """A factor (or summand) that varies along the normalised axes only, in their shape.

    Args:
        w: what a normalised value is multiplied with.
        rank: of the normalised value.
        normalised: sizes of its last axes, over which it is normalised.

    Raises:
        Skip: it varies along other axes, or cannot be given the shape for nothing.
    """
    dims, count = w.shape, len(normalised)
    if len(dims) > rank or any(d != 1 for d in dims[:-count]):
        raise Skip("the factor varies along axes that are not normalised")
    tail = dims[-count:]
    if any(d not in (1, n) for d, n in zip(reversed(tail), reversed(normalised), strict=False)):
        raise Skip("the factor does not fit the normalised axes")
    if dims == normalised:
        return w
    if not w.is_const:
        raise Skip("the factor is computed, and not of the normalised shape")
    plain = op.Reshape(w, np.asarray(tail, dtype=np.int64))
    return plain if tail == normalised else op.Expand(plain, np.asarray(normalised, dtype=np.int64))


def is_all(w: Value, number: float) -> bool:
    """Whether a constant holds one given number everywhere, in every repeat of the block."""
    return w.every(lambda array: bool(np.all(array == number)))


def product(scale: Value, factor: Value, rank: int, normalised: tuple[int, ...]) -> Term:
    """Two factors as one scale.

    Raises:
        Skip: they are no scale, or their product cannot be computed ahead of time.
    """
    if scale.shape != normalised:
        raise Skip("the scale is not of the normalised shape")
    shaped = as_scale(factor, rank, normalised)
    if is_all(scale, 1.0):
        return shaped
    if not (scale.is_const and factor.is_const):
        raise Skip("the product of the two factors is not known ahead of time")
    return op.Mul(scale, shaped)


def normalised_sizes(x: Value, axis: int) -> tuple[int, ...]:
    """The sizes of the axes from `axis` on."""
    rank = x.rank
    return sizes(x, tuple(range(axis % rank, rank)))
