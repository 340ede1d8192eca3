"""Plans of one model for several sizes, laid out so that what does not depend on the size is there once.

Weights, what the device makes of them before the first run, and states that have one shape at all sizes lie in buffers
of the same number in every plan; each plan's own buffers follow. All plans choose from one list of kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...compiler.facts import Array
from ...compiler.ir import digest
from .plan import Choice, Copy, Dispatch, Interface, Kernel, Plan, fingerprint

Size = Mapping[str, int]  # of named dimensions
Places = dict[int, int]  # number of a buffer in all plans, by that in one


@dataclass(frozen=True)
class Plans:
    """A model at several sizes.

    Args:
        sizes: of each plan.
        plans: equal in weights, kernels, setup and their first buffers.
        shared: how many buffers those are.
        prints: of the plans as they were, each by itself.
    """

    sizes: tuple[Size, ...]
    plans: tuple[Plan, ...]
    shared: int
    prints: tuple[str, ...]

    @property
    def spent(self) -> list[int]:
        """Buffers that nothing reads after the setup, at any size."""
        return sorted(frozenset(range(self.shared)).intersection(*(plan.spent for plan in self.plans)))

    @property
    def fingerprint(self) -> str:
        """Of all that they say."""
        return fingerprint(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON: what all plans have, then what is each one's own."""
        whole = [plan.to_dict() for plan in self.plans]
        common = ("kernels", "weights", "setup")
        own = [{k: v for k, v in plan.items() if k not in (*common, "spent", "features")} for plan in whole]
        return {
            "shared": self.shared,
            **{key: whole[0][key] for key in common},
            "spent": self.spent,
            "plans": [
                {"size": dict(size), "hash": print_, **plan}
                for size, print_, plan in zip(self.sizes, self.prints, own, strict=True)
            ],
        }


def together(found: Iterable[tuple[Size, tuple[Plan, Mapping[str, Array]]]]) -> tuple[Plans, dict[str, Array]]:
    """Plans that share what they can, and their weights by name: two that are equal are one.

    Args:
        found: sizes, a plan for them and its weights; each may be made when it is asked for.
    """
    union = _Union()
    sizes, plans, places = list[Size](), list[Plan](), list[Places]()
    for size, (plan, weights) in found:
        sizes.append(size)
        plans.append(plan)
        places.append(union.add(plan, weights))
    for state in _common_states(plans):
        number = union.buffer(max(plan.buffers[i.buffer] for plan, i in zip(plans, state, strict=True)))
        for place, interface in zip(places, state, strict=True):
            place[interface.buffer] = number
    laid = [union.laid(plan, place) for plan, place in zip(plans, places, strict=True)]
    whole = tuple(replace(plan, kernels=tuple(union.kernels)) for plan in laid)  # known only now
    return Plans(tuple(sizes), whole, len(union.bytes), tuple(plan.fingerprint for plan in plans)), union.arrays


def _common_states(plans: Sequence[Plan]) -> list[list[Interface]]:
    """Inputs that are state and lie alike at all sizes: what one size leaves there, another goes on from."""
    inputs = [{i.name: i for i in plan.inputs if i.name in plan.state.values()} for plan in plans]
    rows = [[one.get(name) for one in inputs] for name in inputs[0]]
    whole = [[i for i in row if i is not None] for row in rows if None not in row]
    return [row for row in whole if len({replace(i, buffer=0) for i in row}) == 1]


class _Union:
    """State of laying plans out: what all of them have so far."""

    def __init__(self) -> None:
        self.bytes: list[int] = []  # of each shared buffer
        self.kernels: dict[Kernel, int] = {}
        self.arrays: dict[str, Array] = {}
        self.weights: dict[int, str] = {}
        self.setup: list[Dispatch | Copy] = []
        self._contents: dict[tuple[str, str], int] = {}  # where a weight lies
        self._made: dict[Hashable, list[int]] = {}  # where a step of the setup has written
        self._added = 0

    def buffer(self, size: int) -> int:
        """A new shared buffer."""
        self.bytes.append(size)
        return len(self.bytes) - 1

    def add(self, plan: Plan, weights: Mapping[str, Array]) -> Places:
        """Take a plan's weights and setup in; where they lie."""
        self._added += 1
        places: Places = {}
        for number, name in plan.weights.items():
            places[number] = self._weight(name, weights[name], plan.buffers[number])
        times = Counter(b for step in plan.setup for b in _written(step, plan))
        for step in plan.setup:
            self._set_up(step, plan, places, alone=any(times[b] > 1 for b in _written(step, plan)))
        return places

    def _weight(self, name: str, array: Array, size: int) -> int:
        key = array.dtype.name, digest(array)
        if key in self._contents:
            number = self._contents[key]
            self.bytes[number] = max(self.bytes[number], size)
            return number
        number = self._contents[key] = self.buffer(size)
        while name in self.arrays:  # of another size, with other contents
            name += f"/{number}"
        self.weights[number], self.arrays[name] = name, array
        return number

    def _set_up(self, step: Dispatch | Copy, plan: Plan, places: Places, *, alone: bool) -> None:
        """One step of the setup, unless it was done for another plan.

        Args:
            step: of the plan's setup.
            plan: whose numbers the step has.
            places: of its buffers; changed in place.
            alone: whether it shares nothing, for it adds to what another step wrote.
        """
        written = _written(step, plan)
        for buffer in _bound(step):
            if buffer not in places and buffer not in written:
                places[buffer] = self.buffer(plan.buffers[buffer])  # nothing is in it
        read = tuple(None if b in written else places[b] for b in _bound(step))
        work = (
            step.bytes if isinstance(step, Copy) else (plan.kernels[step.choices[0].kernel], step.choices[0].workgroups)
        )
        key = work, read, tuple(plan.buffers[b] for b in written), self._added if alone else 0
        if not alone and key in self._made:
            places.update(zip(written, self._made[key], strict=True))
            return
        for buffer in written:
            places[buffer] = places[buffer] if buffer in places else self.buffer(plan.buffers[buffer])
        self._made[key] = [places[b] for b in written]
        self.setup.append(self._step(step, plan, places))

    def laid(self, plan: Plan, places: Places) -> Plan:
        """A plan in the numbers of all, its own buffers behind those that are shared."""
        own = [b for b in range(len(plan.buffers)) if b not in places]
        places = places | {b: len(self.bytes) + number for number, b in enumerate(own)}
        steps = tuple(self._step(step, plan, places) for step in plan.steps)
        inputs, outputs = (
            tuple(replace(i, buffer=places[i.buffer]) for i in part) for part in (plan.inputs, plan.outputs)
        )
        buffers = (*self.bytes, *(plan.buffers[b] for b in own))
        return Plan(buffers, self.weights, (), steps, inputs, outputs, plan.state, tuple(self.setup))

    def _step(self, step: Dispatch | Copy, plan: Plan, places: Places) -> Dispatch | Copy:
        if isinstance(step, Copy):
            return Copy(places[step.source], places[step.target], step.bytes)
        kernels = [self.kernels.setdefault(plan.kernels[c.kernel], len(self.kernels)) for c in step.choices]
        choices = tuple(Choice(k, c.workgroups) for k, c in zip(kernels, step.choices, strict=True))
        return Dispatch(step.label, tuple(places[b] for b in step.buffers), choices)


def _bound(step: Dispatch | Copy) -> tuple[int, ...]:
    return (step.source, step.target) if isinstance(step, Copy) else step.buffers


def _written(step: Dispatch | Copy, plan: Plan) -> list[int]:
    if isinstance(step, Copy):
        return [step.target]
    written = plan.kernels[step.choices[0].kernel].written
    return [b for b, is_written in zip(step.buffers, written, strict=True) if is_written]
