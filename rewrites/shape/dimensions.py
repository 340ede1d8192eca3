"""Shapes of numbers, names and unknowns: when two are the same, how they broadcast, how a reshape groups them.

Equal names are equal sizes; None equals nothing, not even None.
"""

from __future__ import annotations

from math import prod

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Skip

Group = tuple[range, range]


def same_dim(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are known to be equal."""
    return a is not None and a == b


def same_shape(a: Shape, b: Shape) -> bool:
    """Whether two shapes are known to be equal."""
    return len(a) == len(b) and all(same_dim(p, q) for p, q in zip(a, b, strict=True))


def same_shape_of_same_size(known: Shape, found: Shape) -> bool:
    """Whether two shapes with equally many elements are equal: one dimension of the second may be unknown then."""
    if len(known) != len(found) or found.count(None) > 1:
        return False
    if None not in found:
        return same_shape(known, found)
    rest = [(a, b) for a, b in zip(known, found, strict=True) if b is not None]
    return all(isinstance(a, int) and a > 0 and a == b for a, b in rest)


def broadcast(*shapes: Shape) -> Shape:
    """The shape several operands broadcast to; None where that is not known."""
    rank = max((len(s) for s in shapes), default=0)
    aligned = [pad_rank(s, rank) for s in shapes]
    result: list[Dim] = []
    for dims in zip(*aligned, strict=True):
        several = [d for d in dims if d != 1]
        first = several[0] if several else 1
        result.append(first if all(same_dim(first, d) for d in several) else _only_number(several))
    return tuple(result)


def _only_number(dims: list[Dim]) -> Dim:
    """Of unequal dimensions, a number other than 1 must be the result; between names it is not known."""
    numbers = {d for d in dims if isinstance(d, int)}
    return numbers.pop() if len(numbers) == 1 else None


def pad_rank(shape: Shape, rank: int) -> Shape:
    """The shape with ones in front, as broadcasting reads it.

    Raises:
        Skip: it has more dimensions than that.
    """
    if len(shape) > rank:
        raise Skip("an operand has more dimensions than the other")
    return (1,) * (rank - len(shape)) + shape


def strip_ones(shape: Shape) -> Shape:
    """The shape without ones in front: the shortest that broadcasts alike."""
    start = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    return shape[start:]


def align(source: Shape, target: Shape) -> list[Group]:
    """Which dimensions of a reshape's operand become which dimensions of its result, in the smallest groups.

    A group with an empty side is a dimension of size 1 that goes or comes. Where sizes are unknown, groups are found
    from both ends and what is left in the middle is one group.

    Raises:
        Skip: the sizes do not fit together.
    """
    front, i, j = _walk(source, target)
    if i == len(source) and j == len(target):
        return front
    back, p, q = _walk(source[i:][::-1], target[j:][::-1])
    end, stop = len(source) - p, len(target) - q
    turned = [(_turn(a, len(source)), _turn(b, len(target))) for a, b in reversed(back)]
    middle: list[Group] = [(range(i, end), range(j, stop))]
    if i == end or j == stop:
        raise Skip("a reshape's dimensions cannot be matched")
    return [*front, *middle, *turned]


def _turn(backwards: range, count: int) -> range:
    return range(count - backwards.stop, count - backwards.start)


def _walk(source: Shape, target: Shape) -> tuple[list[Group], int, int]:
    """Groups from the front as far as sizes are known, and where that ends in both shapes."""
    groups: list[Group] = []
    i = j = 0
    while i < len(source) or j < len(target):
        a = source[i] if i < len(source) else 1
        b = target[j] if j < len(target) else 1
        if i < len(source) and j < len(target) and same_dim(a, b):
            stop, end = i + 1, j + 1
        elif a == 1 and i < len(source):
            stop, end = i + 1, j
        elif b == 1 and j < len(target):
            stop, end = i, j + 1
        else:
            found = _factors(source, target, i, j)
            if found is None:
                return groups, i, j
            stop, end = found
        groups.append((range(i, stop), range(j, end)))
        i, j = stop, end
    return groups, i, j


def _factors(source: Shape, target: Shape, i: int, j: int) -> tuple[int, int] | None:
    """Where the shortest runs of numbers with equal products end."""
    stop, end = i + 1, j + 1
    while stop <= len(source) and end <= len(target):
        left, right = _product(source[i:stop]), _product(target[j:end])
        if left is None or right is None or left == 0 or right == 0:
            return None
        if left == right:
            return stop, end
        stop, end = (stop + 1, end) if left < right else (stop, end + 1)
    return None


def _product(dims: Shape) -> int | None:
    numbers = [d for d in dims if isinstance(d, int)]
    return prod(numbers) if len(numbers) == len(dims) else None
