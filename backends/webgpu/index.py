"""Arithmetic on subscripts of a shader: numbers are folded, everything else is WGSL text of type i32."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Index = int | str
Subscript = tuple[Index, ...]


def add(a: Index, b: Index) -> Index:
    """A + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0:  # 0 + b → b
        return b
    if b == 0:
        return a
    if isinstance(b, int) and b < 0:
        return f"({a} - {-b})"
    return f"({a} + {b})"


def mul(a: Index, b: Index) -> Index:
    """a·b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if 0 in (a, b):
        return 0
    if a == 1:  # 1·b → b
        return b
    return a if b == 1 else f"({a} * {b})"


def div(a: Index, b: int) -> Index:
    """⌊a/b⌋ for a ≥ 0, b > 0."""
    if isinstance(a, int):
        return a // b
    return a if b == 1 else f"({a} / {b})"


def mod(a: Index, b: int) -> Index:
    """A mod b for a ≥ 0, b > 0."""
    if isinstance(a, int):
        return a % b
    return 0 if b == 1 else f"({a} % {b})"


def flatten(subscript: Sequence[Index], shape: Sequence[int]) -> Index:
    """The row-major position of an element."""
    found: Index = 0
    for i, size in zip(subscript, shape, strict=True):
        found = add(mul(found, size), 0 if size == 1 else i)
    return found


def unflatten(position: Index, shape: Sequence[int]) -> Subscript:
    """The subscript of the element at a row-major position."""
    found: list[Index] = []
    rest = prod(shape)
    for number, size in enumerate(shape):
        rest //= max(size, 1)
        whole = div(position, max(rest, 1))
        found.append(whole if number == 0 and size > 1 else mod(whole, max(size, 1)))
    return tuple(found)


def reshaped(subscript: Subscript, old: Sequence[int], new: Sequence[int]) -> Subscript:
    """The subscript in another shape of as many elements; axes that both have in common are kept as they are."""
    found: list[Index] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = i, j
        a, b = _next(old, i), _next(new, j)
        i, j = i + 1, j + 1
        while a != b and not (i >= len(old) and j >= len(new)):
            if a < b or j >= len(new):
                a *= _next(old, i)
                i += 1
            else:
                b *= _next(new, j)
                j += 1
        if [s for s in old[first:i] if s != 1] == [s for s in new[second:j] if s != 1]:
            kept = iter([x for x, s in zip(subscript[first:i], old[first:i], strict=True) if s != 1])
            found += [next(kept) if s != 1 else 0 for s in new[second:j]]
        else:
            found += unflatten(flatten(subscript[first:i], old[first:i]), new[second:j])
    return tuple(found)


def _next(shape: Sequence[int], axis: int) -> int:
    return shape[axis] if axis < len(shape) else 1


def broadcast(subscript: Subscript, shape: Sequence[int]) -> Subscript:
    """The subscript of the element that numpy's broadcasting puts there."""
    last = subscript[len(subscript) - len(shape) :]
    return tuple(0 if size == 1 else i for i, size in zip(last, shape, strict=True))
