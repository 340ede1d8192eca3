"""Values that are not alive together share buffers; those that are never do; and little is wasted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tamago.backends.webgpu.memory import assign

Steps = list[tuple[list[str], list[str]]]


@st.composite
def programs(draw: st.DrawFn) -> tuple[dict[str, int], Steps, set[str]]:
    """Steps that each read some earlier values and write one."""
    count = draw(st.integers(1, 24))
    names = [f"v{i}" for i in range(count + 1)]
    sizes = {name: 4 * draw(st.integers(1, 64)) for name in names}
    steps: Steps = []
    for number in range(1, count + 1):
        back = draw(st.lists(st.integers(1, min(number, 6)), min_size=1, max_size=3, unique=True))
        steps.append(([names[number - b] for b in back], [names[number]]))
    kept = {names[0], names[-1]} | set(draw(st.lists(st.sampled_from(names), max_size=3)))
    return sizes, steps, kept


def lives(steps: Steps) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for number, (read, written) in enumerate(steps):
        for name in (*read, *written):
            found[name] = (found.get(name, (number, 0))[0], number)
    return found


def peak(sizes: dict[str, int], steps: Steps, kept: set[str]) -> int:
    """Bytes of what is alive at once, at most: no plan takes less."""
    alive = lives(steps)
    return max(
        sum(sizes[n] for n, (first, last) in alive.items() if n not in kept and first <= step <= last)
        for step in range(len(steps))
    )


def shared_bytes(places: dict[str, int], buffers: Sequence[int], kept: set[str]) -> int:
    return sum(buffers[b] for b in {place for name, place in places.items() if name not in kept})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(programs())
def test_values_that_are_alive_together_lie_apart(program: tuple[dict[str, int], Steps, set[str]]) -> None:
    sizes, steps, kept = program
    places, buffers = assign(sizes, steps, kept)
    alive = lives(steps)
    for name, place in places.items():
        assert buffers[place] >= sizes[name]
        for other in places:
            if other == name or places[other] != place:
                continue
            assert name not in kept
            assert alive[name][1] < alive[other][0] or alive[other][1] < alive[name][0]
    assert set(places) == set(alive) | kept


def test_a_small_value_does_not_take_the_buffer_of_a_large_one() -> None:
    # In the order of steps "small" would take the buffer that "large" left, and that of "middle" would grow for "huge".
    sizes = {"x": 4, "large": 400, "middle": 8, "small": 8, "huge": 400, "y": 4}
    steps: Steps = [([before], [after]) for before, after in pairwise(sizes)]
    kept = {"x", "y"}
    places, buffers = assign(sizes, steps, kept)
    assert places["large"] == places["huge"]
    assert shared_bytes(places, buffers, kept) == 400 + 8 + 8


@settings(max_examples=300, deadline=None, derandomize=True)
@given(programs())
def test_no_program_takes_twice_what_is_alive_at_once(program: tuple[dict[str, int], Steps, set[str]]) -> None:
    sizes, steps, kept = program
    places, buffers = assign(sizes, steps, kept)
    assert shared_bytes(places, buffers, kept) <= 2 * peak(sizes, steps, kept)
