"""Reshape written in one way: a constant of numbers, 0 for a dimension kept in its place, one -1 for what is left."""

from __future__ import annotations

from ...compiler.facts import Array, Dim, Shape
from ...compiler.rule import Expression, Skip, Term, Value, op
from .axes import ints
from .dimensions import same_shape_of_same_size


def shape_constant(source: Shape, target: Shape, *, inferring: bool = False) -> Array:
    """The constant that turns one shape into another.

    Args:
        source: of the operand.
        target: of the result.
        inferring: -1 may stand beside kept dimensions. ONNX cannot infer -1 when a kept dimension turns out to be zero,
            so this is right only where the model already asked for the same.

    Raises:
        Skip: more than one dimension of the result is unknown ahead of time.
    """
    entries: list[int] = []
    for place, dim in enumerate(target):
        if dim == 0:
            raise Skip("the result is empty")
        if isinstance(dim, int):
            entries.append(dim)
        elif dim is not None and place < len(source) and source[place] == dim:
            entries.append(0)
        else:
            entries.append(-1)
    if entries.count(-1) > 1:
        raise Skip("more than one dimension of the result is unknown")
    if -1 in entries and 0 in entries and not inferring:
        raise Skip("a dimension would be inferred beside one that may be empty")
    return ints(*entries)


def reshape(x: Value, target: Shape, *, inferring: bool = False) -> Term:
    """The value in another shape; the value itself when it has that shape."""
    if same_shape_of_same_size(x.shape, target):
        return x
    return op.Reshape(x, shape_constant(x.shape, target, inferring=inferring))


def reshape_expression(x: Expression, source: Shape, target: Shape, *, inferring: bool = False) -> Expression:
    """The same for an expression, whose shape the caller knows."""
    if same_shape_of_same_size(source, target):
        return x
    return op.Reshape(x, shape_constant(source, target, inferring=inferring))


def reshaped(x: Value, shape: Value) -> Shape:
    """The result's shape of `Reshape(x, shape)` for a constant shape; None where the -1 is not a number.

    Raises:
        Skip: the shape is not constant, or keeps a dimension that does not exist.
    """
    source, entries = x.shape, [int(e) for e in shape.array.reshape(-1)]
    if any(e == 0 and place >= len(source) for place, e in enumerate(entries)):
        raise Skip("a reshape keeps a dimension that does not exist")
    result: list[Dim] = [source[place] if e == 0 else (None if e == -1 else e) for place, e in enumerate(entries)]
    if -1 in entries:
        result[entries.index(-1)] = _inferred(source, result, entries.index(-1))
    return tuple(result)


def _inferred(source: Shape, result: list[Dim], place: int) -> Dim:
    """What -1 stands for: the sizes of the operand that the other entries do not account for."""
    have, rest = list(source), [d for i, d in enumerate(result) if i != place]
    total = quotient = 1
    for dim in rest:
        if dim is not None and not isinstance(dim, int) and dim in have:
            have.remove(dim)
        elif isinstance(dim, int):
            quotient *= dim
        else:
            return None
    names = [d for d in have if not isinstance(d, int)]
    for dim in have:
        total *= dim if isinstance(dim, int) else 1
    if not names:
        return total // quotient if quotient and total % quotient == 0 else None
    return names[0] if len(names) == 1 and total == quotient else None


def infers(shape: Value) -> bool:
    """Whether a Reshape's shape is a constant with -1 in it."""
    return shape.every(lambda entries: bool((entries == -1).any()))
