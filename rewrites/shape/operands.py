"""The other operand of a broadcasting operator, as it must stand before a Reshape or a Transpose of the first."""

from __future__ import annotations

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Skip, Term, Value, op
from .axes import Permutation, inverse
from .dimensions import align, pad_rank, same_dim, same_shape, strip_ones
from .reshaping import reshape


def before_reshape(other: Value, source: Shape, target: Shape) -> Term:
    """What broadcasts against `source` as `other` does against `target`, to which `source` is reshaped.

    Args:
        other: the operand that is not reshaped.
        source: shape of the reshaped operand before.
        target: and after; an unknown dimension is right only where the other operand has 1.

    Raises:
        Skip: it broadcasts along a part of a merged or split dimension only, or enlarges the reshaped operand.
    """
    theirs = pad_rank(other.shape, len(target))
    shape: list[Dim] = [1] * len(source)
    for inner, outer in align(source, target):
        dims = [theirs[j] for j in outer]
        if all(d == 1 for d in dims):
            continue
        if not all(same_dim(theirs[j], target[j]) for j in outer):
            raise Skip("the other operand broadcasts along a part of a reshaped dimension")
        for i in inner:
            shape[i] = source[i]
    return reshape(other, _short(tuple(shape), other.shape))


def _short(shape: Shape, own: Shape) -> Shape:
    """Without ones in front, unless the operand has just this shape."""
    if same_shape(shape, own):
        return shape
    short = strip_ones(shape)
    # Its own leading ones may stay, but must not give the other operand dimensions that it does not have.
    return own if len(own) <= len(shape) and same_shape(strip_ones(own), short) else short


def before_transpose(other: Value, perm: Permutation) -> Term:
    """What broadcasts against a tensor as `other` does against that tensor transposed.

    Raises:
        Skip: the operand would itself need a Transpose, and is not a constant.
    """
    theirs = pad_rank(other.shape, len(perm))
    back = inverse(perm)
    shape = tuple(theirs[axis] for axis in back)
    solid = [axis for axis in back if theirs[axis] != 1]
    if solid == sorted(solid):
        return reshape(other, _short(shape, other.shape))
    if not other.is_const:
        raise Skip("the other operand would need a Transpose of its own")
    full = reshape(other, theirs)
    return op.Transpose(full, perm=back)
