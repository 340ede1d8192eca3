"""Buffers shared by values that are not alive together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def assign(
    sizes: Mapping[str, int], steps: Sequence[tuple[Sequence[str], Sequence[str]]], kept: set[str]
) -> tuple[dict[str, int], list[int]]:
    """A buffer for each value.

    The largest first, each in the tightest buffer whose other values are not alive with it: no buffer ever grows. A
    part of a buffer cannot be shared, for a kernel may not read one part of it and write another.

    Args:
        sizes: bytes of each value.
        steps: names read and names written, in order.
        kept: values that nothing may overwrite, before or after their steps.

    Returns:
        The buffer of each value, and the bytes of each buffer.
    """
    lives = _lives(steps)
    places = {name: number for number, name in enumerate(sorted(kept))}
    buffers = [sizes[name] for name in places]
    shared: dict[int, list[range]] = {}  # when each buffer that is not kept is taken
    for name in sorted(lives.keys() - kept, key=lambda n: (-sizes[n], lives[n].start, n)):
        life = lives[name]
        free = [b for b, taken in shared.items() if all(life.stop <= t.start or t.stop <= life.start for t in taken)]
        place = min(free, key=lambda b: buffers[b], default=len(buffers))
        if place == len(buffers):
            buffers.append(sizes[name])
        places[name] = place
        shared.setdefault(place, []).append(life)
    return places, buffers


def _lives(steps: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[str, range]:
    """From the first step that touches a value to the last."""
    found: dict[str, range] = {}
    for number, (read, written) in enumerate(steps):
        for name in (*read, *written):
            found[name] = range(found[name].start if name in found else number, number + 1)
    return found
