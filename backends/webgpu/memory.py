"""Buffers shared by values that are not alive together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def assign(
    sizes: Mapping[str, int], steps: Sequence[tuple[Sequence[str], Sequence[str]]], kept: set[str]
) -> tuple[dict[str, int], list[int]]:
    """A buffer for each value.

    Largest first would waste least; in the order of steps every value is placed when it is made, into the smallest
    free buffer that is large enough, or the largest free one, which grows.

    Args:
        sizes: bytes of each value.
        steps: names read and names written, in order.
        kept: values that nothing may overwrite, before or after their steps.

    Returns:
        The buffer of each value, and the bytes of each buffer.
    """
    last = {name: number for number, (read, written) in enumerate(steps) for name in (*read, *written)}
    places: dict[str, int] = {}
    buffers: list[int] = []
    free: list[int] = []
    for name in sorted(kept):
        places[name] = len(buffers)
        buffers.append(sizes[name])
    for number, (read, written) in enumerate(steps):
        for name in written:
            if name not in places:
                places[name] = _place(sizes[name], buffers, free)
        ended = {n for n in (*read, *written) if n not in kept and last[n] == number and n in places}
        free += [places[name] for name in sorted(ended)]
    return places, buffers


def _place(size: int, buffers: list[int], free: list[int]) -> int:
    enough = [b for b in free if buffers[b] >= size]
    if not free:
        buffers.append(size)
        return len(buffers) - 1
    found = min(enough, key=lambda b: buffers[b]) if enough else max(free, key=lambda b: buffers[b])
    buffers[found] = max(buffers[found], size)
    free.remove(found)
    return found
