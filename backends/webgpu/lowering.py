"""A model as a plan: specialised, scheduled, its kernels written, its buffers assigned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from math import prod

import numpy as np
import onnx_ir as ir

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.facts import Array
from ...compiler.generation.alias import aliases
from ...compiler.opset import TARGET
from . import kernels as kernels  # registers loops
from .definitions import resizes_two_ways
from .expression import lies, packing, shape_of
from .group import Group
from .kernels.registry import Form
from .kernels.writer import Writer, every_element
from .limits import Limits
from .memory import assign
from .narrow import narrow, pair_halves
from .plan import Choice, Copy, Dispatch, Interface, Kernel, Plan
from .schedule import element_rule, kernel_rule, schedule
from .specialise import specialised
from .types import BYTES, as_packed, as_stored, computed, stored, transfers

TRIES = 4  # forms written for each candidate: a device's limits may rule out most of them
Shaped = tuple[Kernel, tuple[int, int, int]]
HERE_ONLY = 'use target "webgpu", which leaves it to ONNX Runtime; a browser has nothing else to run it'
READ_TWO_WAYS = (
    "scales that make no whole size are read by ONNX Runtime otherwise than by the standard where corners are aligned"
)


@dataclass(frozen=True)
class Written:
    """A group's kernel, and the values that it binds.

    Args:
        group: what it does.
        first: the form that is taken untuned.
        forms: all that were asked for, with their workgroups.
    """

    group: Group
    first: Writer
    forms: tuple[Shaped, ...]

    @property
    def reads(self) -> list[ir.Value]:
        """Values that it reads."""
        found = list(self.first.shader.slots)
        return found if self.first.copied is None else [*found, self.first.copied]


class TooLarge(TamagoError):
    """Values that no buffer of the device holds.

    Args:
        sizes: their bytes, by name.
        most: bytes that the device binds at once.
    """

    def __init__(self, sizes: Mapping[str, int], most: int) -> None:
        self.names = frozenset(sizes)
        first = [f"{name} ({size:,} bytes)" for name, size in sizes.items()][:3]
        super().__init__(
            "B034",
            "a value is larger than what the device binds at once",
            where=", ".join(first) + (" …" if len(sizes) > 3 else ""),
            why=f"that is {most:,} bytes",
            todo="compile for smaller inputs, or for a device that binds more",
            exit_code=EXIT_UNSUPPORTED,
        )


def is_known(node: ir.Node) -> bool:
    """Whether there is a kernel for a node whose shapes are known."""
    return element_rule(node) is not None or kernel_rule(node) is not None


def plan_of(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    *,
    half: bool = False,
    narrow_weights: bool = False,
    candidates: int = 1,
    limits: Limits = Limits(),  # noqa: B008
) -> tuple[Plan, dict[str, Array]]:
    """The plan of a model for one set of input shapes, and its weights by name as they lie in buffers.

    Args:
        model: in standard operators.
        shapes: of the inputs that have free dimensions.
        half: whether the device has f16.
        narrow_weights: store large weights of single precision in half; the device must have f16.
        candidates: forms of each kernel, at most; a tuner chooses among them.
        limits: of the device.

    Raises:
        TamagoError: B031, operators without a kernel; B032, B033, shapes that are missing or do not fit; B034, a
            value is larger than any buffer of the device.
    """
    model = specialised(model, shapes or {}, is_known, most=limits.binding, half=half)
    graph = model.graph
    if narrow_weights:
        narrow(graph)
    if not half:
        pair_halves(graph)
    scheduled = schedule(graph)
    if scheduled.unsupported:
        raise _unsupported(scheduled.unsupported)
    _check_types(graph)
    try:
        return _Lowering(model, half, candidates, limits).plan(scheduled.groups)
    except OverflowError as error:
        todo = "shaders have integers of 32 bits: keep constants below 2,147,483,648"
        raise TamagoError(
            "B031", "an integer is too large", why=str(error), todo=todo, exit_code=EXIT_UNSUPPORTED
        ) from error


def _check_types(graph: ir.Graph) -> None:
    for value in (*graph.inputs, *graph.outputs):
        if not transfers(value.dtype) or value.shape is None or not value.shape.is_static():
            raise TamagoError(
                "B031",
                f"'{value.name}' is nothing that a buffer holds",
                why=f"{value.dtype} of shape {value.shape}",
                todo="give its sizes (--shape NAME=1,3,224,224), or cast it to a type that shaders have",
                exit_code=EXIT_UNSUPPORTED,
            )


def _unsupported(nodes: list[ir.Node]) -> TamagoError:
    names = sorted({f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes})
    why, todo = _reason(nodes)
    return TamagoError(
        "B031",
        f"no kernel for {', '.join(names)}",
        where=", ".join(n.name or n.op_type for n in nodes[:3]) + (" …" if len(nodes) > 3 else ""),
        why=why,
        todo=todo,
        exit_code=EXIT_UNSUPPORTED,
    )


def _reason(nodes: list[ir.Node]) -> tuple[str, str]:
    """Why there is no kernel, and what to do."""
    values = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None and (v.name or v.shape is not None)]
    types = sorted({v.dtype.name for v in values if v.dtype is not None and computed(v.dtype) is None})
    if types:
        return f"shaders have no {', '.join(types)}", "cast to float32 or int32 before it"
    if any(v.shape is None or not v.shape.is_static() for v in values):
        return "sizes depend on the contents of inputs", "inputs that are always the same: --value NAME=N"
    if any(resizes_two_ways(n) for n in nodes):
        return READ_TWO_WAYS, "export it with sizes in the place of scales; in torch: interpolate(size=…)"
    graph = nodes[0].graph
    version = TARGET if graph is None else graph.opset_imports.get("", TARGET)
    if version != TARGET:
        return f"the model is of opset {version}; shaders know {TARGET}", "bring it to that: tamago optimize"
    return "", HERE_ONLY


class _Lowering:
    """State of one plan."""

    def __init__(self, model: ir.Model, half: bool, candidates: int, limits: Limits) -> None:
        self.graph, self.half, self.candidates, self.limits = model.graph, half, candidates, limits
        self.forms: dict[tuple[bool, Shaped], tuple[Shaped, ...]] = {}  # of each kernel, by the first; ahead or not
        self.state = aliases(model)
        self.kernels: dict[Kernel, int] = {}
        self.weights: dict[str, Array] = {}

    def plan(self, groups: list[Group]) -> tuple[Plan, dict[str, Array]]:
        """Everything in order."""
        written = _ordered([self._write(group) for group in groups if prod(shape_of(group.result))])
        written.sort(key=lambda w: not w.group.ahead)
        same = self._same_buffer(written)
        moved = [v for v in self.graph.outputs if v.producer() is None]  # inputs and constants that are handed through
        steps = [([self._name(v, same) for v in w.reads], [self._name(w.group.result, same)]) for w in written]
        values = {v for w in written for v in (*w.reads, w.group.result)}
        values |= {*self.graph.inputs, *self.graph.outputs}
        sizes = {self._name(v, same): self._bytes(v) for v in values} | {f"out:{v.name}": self._bytes(v) for v in moved}
        ends = {*self.graph.inputs, *self.graph.outputs, *(v for v in values if v.const_value is not None)}
        ends |= {v for v in values if not prod(shape_of(v))}  # nobody writes them
        ends |= {w.group.result for w in written if w.group.ahead}
        kept = {self._name(v, same) for v in ends if v in values} | {f"out:{v.name}" for v in moved}
        self._check_sizes(sizes)
        places, buffers = assign(sizes, steps, kept)
        done, setup = list[Dispatch | Copy](), list[Dispatch | Copy]()
        for w in written:
            part = setup if w.group.ahead else done
            bound = [places[self._name(v, same)] for v in w.first.buffers]
            source = w.first.copied
            if source is not None and places[self._name(source, same)] != bound[-1]:
                part.append(Copy(places[self._name(source, same)], bound[-1], self._bytes(source)))
            if prod(w.first.workgroups):
                choices = tuple(Choice(self._kernel(kernel), workgroups) for kernel, workgroups in w.forms)
                part.append(Dispatch(w.group.label, tuple(bound), choices))
        done += [Copy(places[self._name(v, same)], places[f"out:{v.name}"], self._bytes(v)) for v in moved]
        constants = sorted((v for v in values if v.const_value is not None), key=lambda v: v.name or "")
        held = {places[self._name(v, same)]: self._weight(v) for v in constants}
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
            tuple(setup),
        )
        return plan, self.weights

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        most = self.limits.most
        large = [] if most is None else sorted((n for n in sizes if sizes[n] > most), key=lambda n: -sizes[n])
        if large:
            raise TooLarge({name: sizes[name] for name in large}, most or 0)

    def _write(self, group: Group, limits: Limits | None = None) -> Written:
        limits = limits or self.limits
        forms: Iterable[Form] = [every_element]
        if group.root is not None:
            rule = kernel_rule(group.root)
            assert rule is not None
            forms = rule.forms(group.root)
        first: Writer | None = None
        found: dict[Shaped, None] = {}
        for number, form in enumerate(forms):
            if first is not None and (group.ahead or number >= TRIES * self.candidates):
                break
            writer = Writer(group, half=self.half, slots=first.shader.slots if first else None)
            form(writer)
            if not writer.fits(limits) or (first and set(writer.shader.slots) != set(first.shader.slots)):
                continue
            shaped = writer.kernel(), writer.workgroups
            if first is None and (group.ahead, shaped) in self.forms:  # it was written for other buffers
                return Written(group, writer, self.forms[group.ahead, shaped])
            first = first or writer
            found[shaped] = None
            if len(found) >= self.candidates:
                break
        if first is None and limits.software:  # what costs more there is better than nothing
            return self._write(group, replace(limits, software=False))
        if first is None:
            what = f"no form of {group.label} fits the device"
            why = (
                f"a kernel may have {self.limits.threads} threads that share {self.limits.memory} bytes, and read and "
                f"write {self.limits.buffers} buffers"
            )
            raise TamagoError("B031", what, why=why, todo=HERE_ONLY, exit_code=EXIT_UNSUPPORTED)
        self.forms[group.ahead, next(iter(found))] = tuple(found)
        return Written(group, first, tuple(found))

    def _same_buffer(self, written: list[Written]) -> dict[str, str]:
        """Input name by the output that is written in its place: a state that nobody else reads any more."""
        found: dict[str, str] = {}
        inputs = {v.name: v for v in self.graph.inputs}
        for number, w in enumerate(written):
            source, name = w.first.copied, w.group.result.name or ""
            target = self.state.get(name)
            if source is None or target is None or inputs.get(target) is not source or source in self.graph.outputs:
                continue
            if source in w.first.shader.slots or any(source in x.reads for x in written[number + 1 :]):
                continue
            found[name] = target
        return found

    def _name(self, value: ir.Value, same: Mapping[str, str]) -> str:
        name = value.name or ""
        return same.get(name, name)

    def _bytes(self, value: ir.Value) -> int:
        size = -(-prod(shape_of(value)) // packing(value)) * BYTES[lies(value, half=self.half)]
        return max(-(-size // 4) * 4, 4)

    def _kernel(self, kernel: Kernel) -> int:
        return self.kernels.setdefault(kernel, len(self.kernels))

    def _weight(self, value: ir.Value) -> str:
        assert value.const_value is not None
        array = np.asarray(value.const_value.numpy())
        single = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 is no type of NumPy's own
        count, kind = packing(value), lies(value, half=self.half)
        self.weights[value.name or ""] = as_packed(array, count) if count > 1 else as_stored(single, kind)
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
