"""A model as a plan: specialised, scheduled, its kernels written, its buffers assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from math import prod

import numpy as np
import onnx_ir as ir

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.facts import Array
from ...compiler.generation.alias import aliases
from . import kernels as kernels  # registers loops
from .expression import shape_of
from .group import Group
from .kernels.registry import Form
from .kernels.writer import Writer, every_element
from .memory import assign
from .plan import Choice, Copy, Dispatch, Interface, Kernel, Plan
from .schedule import element_rule, kernel_rule, schedule
from .specialise import specialised
from .types import BYTES, as_stored, computed, stored


@dataclass(frozen=True)
class Written:
    """A group's kernel in all its forms, and the values that it binds."""

    group: Group
    writers: list[Writer]

    @property
    def first(self) -> Writer:
        """The form that is taken untuned."""
        return self.writers[0]

    @property
    def reads(self) -> list[ir.Value]:
        """Values that it reads."""
        found = list(self.first.shader.slots)
        return found if self.first.copied is None else [*found, self.first.copied]


def is_known(node: ir.Node) -> bool:
    """Whether there is a kernel for a node whose shapes are known."""
    return element_rule(node) is not None or kernel_rule(node) is not None


def plan_of(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]] | None = None, *, half: bool = False
) -> tuple[Plan, dict[str, Array]]:
    """The plan of a model for one set of input shapes, and its weights by name as they lie in buffers.

    Args:
        model: in standard operators.
        shapes: of the inputs that have free dimensions.
        half: whether the device has f16.

    Raises:
        TamagoError: B031, operators without a kernel; B032, B033, shapes that are missing or do not fit.
    """
    model = specialised(model, shapes or {}, is_known)
    graph = model.graph
    _check_types(graph)
    scheduled = schedule(graph)
    if scheduled.unsupported:
        raise _unsupported(scheduled.unsupported)
    return _Lowering(model, half).plan(scheduled.groups)


def _check_types(graph: ir.Graph) -> None:
    for value in (*graph.inputs, *graph.outputs):
        if computed(value.dtype) is None or value.shape is None or not value.shape.is_static():
            raise TamagoError(
                "B031",
                f"'{value.name}' is nothing that a buffer holds",
                why=f"{value.dtype} of shape {value.shape}",
                exit_code=EXIT_UNSUPPORTED,
            )


def _unsupported(nodes: list[ir.Node]) -> TamagoError:
    names = sorted({f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes})
    return TamagoError(
        "B031",
        f"no kernel for {', '.join(names)}",
        where=", ".join(n.name or n.op_type for n in nodes[:3]) + (" …" if len(nodes) > 3 else ""),
        exit_code=EXIT_UNSUPPORTED,
    )


class _Lowering:
    """State of one plan."""

    def __init__(self, model: ir.Model, half: bool) -> None:
        self.graph, self.half = model.graph, half
        self.state = aliases(model)
        self.kernels: dict[Kernel, int] = {}
        self.weights: dict[str, Array] = {}

    def plan(self, groups: list[Group]) -> tuple[Plan, dict[str, Array]]:
        """Everything in order."""
        written = _ordered([self._write(group) for group in groups if prod(shape_of(group.result))])
        same = self._same_buffer(written)
        moved = [v for v in self.graph.outputs if v.producer() is None]  # inputs and constants that are handed through
        steps = [([self._name(v, same) for v in w.reads], [self._name(w.group.result, same)]) for w in written]
        values = {v for w in written for v in (*w.reads, w.group.result)}
        values |= {*self.graph.inputs, *self.graph.outputs}
        sizes = {self._name(v, same): self._bytes(v) for v in values} | {f"out:{v.name}": self._bytes(v) for v in moved}
        ends = {*self.graph.inputs, *self.graph.outputs, *(v for v in values if v.const_value is not None)}
        kept = {self._name(v, same) for v in ends if v in values} | {f"out:{v.name}" for v in moved}
        places, buffers = assign(sizes, steps, kept)
        done: list[Dispatch | Copy] = []
        for w in written:
            bound = [places[self._name(v, same)] for v in w.first.buffers]
            source = w.first.copied
            if source is not None and places[self._name(source, same)] != bound[-1]:
                done.append(Copy(places[self._name(source, same)], bound[-1], self._bytes(source)))
            if prod(w.first.workgroups):
                choices = tuple(Choice(self._kernel(x.kernel()), x.workgroups) for x in w.writers)
                done.append(Dispatch(w.group.label, tuple(bound), choices))
        done += [Copy(places[self._name(v, same)], places[f"out:{v.name}"], self._bytes(v)) for v in moved]
        held = {places[self._name(v, same)]: self._weight(v) for v in values if v.const_value is not None}
        inputs = [v for v in self.graph.inputs if v.const_value is None]
        plan = Plan(
            tuple(buffers),
            held,
            tuple(self.kernels),
            tuple(done),
            tuple(self._interface(v, places[self._name(v, same)]) for v in inputs),
            tuple(
                self._interface(v, places[f"out:{v.name}" if v in moved else self._name(v, same)])
                for v in self.graph.outputs
            ),
            self.state,
        )
        return plan, self.weights

    def _write(self, group: Group) -> Written:
        forms: list[Form] = [every_element]
        if group.root is not None:
            rule = kernel_rule(group.root)
            assert rule is not None
            forms = list(rule.forms(group.root))
        writers: list[Writer] = []
        for form in forms:
            writer = Writer(group, half=self.half, slots=writers[0].shader.slots if writers else None)
            form(writer)
            if not writers or set(writer.shader.slots) == set(writers[0].shader.slots):
                writers.append(writer)
        return Written(group, writers)

    def _same_buffer(self, written: list[Written]) -> dict[str, str]:
        """Input name by the output that is written in its place: a state that nobody else reads any more."""
        found: dict[str, str] = {}
        inputs = {v.name: v for v in self.graph.inputs}
        for number, w in enumerate(written):
            source, target = w.first.copied, self.state.get(w.group.result.name or "")
            if source is None or target is None or inputs.get(target) is not source or w.group.path:
                continue
            if all(source not in list(x.first.shader.slots) for x in written[number:]):
                found[w.group.result.name or ""] = target
        return found

    def _name(self, value: ir.Value, same: Mapping[str, str]) -> str:
        name = value.name or ""
        return same.get(name, name)

    def _bytes(self, value: ir.Value) -> int:
        size = prod(shape_of(value)) * BYTES[stored(value.dtype, half=self.half)]
        return max(-(-size // 4) * 4, 4)

    def _kernel(self, kernel: Kernel) -> int:
        return self.kernels.setdefault(kernel, len(self.kernels))

    def _weight(self, value: ir.Value) -> str:
        assert value.const_value is not None
        array = np.asarray(value.const_value.numpy())
        single = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 is no type of NumPy's own
        self.weights[value.name or ""] = as_stored(single, stored(value.dtype, half=self.half))
        return value.name or ""

    def _interface(self, value: ir.Value, buffer: int) -> Interface:
        assert value.dtype is not None
        dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(value.dtype.name, value.dtype.name.lower())
        return Interface(value.name or "", buffer, shape_of(value), dtype, stored(value.dtype, half=self.half))


def _ordered(written: list[Written]) -> list[Written]:
    """After everything that each reads; else as they came."""
    by_result = {w.group.result: number for number, w in enumerate(written)}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, w in enumerate(written):
        sorter.add(number, *sorted(by_result[v] for v in w.reads if v in by_result))
    return [written[number] for number in sorter.static_order()]
