"""A model of which a device runs what it has kernels for, and another runtime the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from ...compiler.ir import captured
from .decisions import decided, deciding
from .device import Device
from .expression import shape_of
from .lowering import TooLarge, is_known
from .records import Records
from .run import Program
from .specialise import specialised

NOT_LOADED = "B001"
REFUSED = ("B031", "B034")  # for want of a kernel, or of room in a buffer
MOST_PROGRAMS = 4  # one for each value of an input that decides which branch is taken
Found = TypeVar("Found")
Run = Callable[[Mapping[str, Array]], list[Any]]


@dataclass(frozen=True)
class Part:
    """Nodes that run in one place, after the parts before them."""

    program: Run
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Partitioned:
    """A model, on the device as far as it goes.

    Args:
        model: any.
        device: where.
        elsewhere: makes programs of what the device has no kernels for.
        records: which forms of kernels are the fastest; None: the likeliest are taken.
    """

    def __init__(
        self,
        model: ir.Model,
        device: Device,
        elsewhere: Callable[[ir.Model], Run],
        records: Records | None = None,
    ) -> None:
        self.model, self.device, self._elsewhere, self._records = model, device, elsewhere, records
        self._whole = Program(model, device, records)
        self.inputs, self.outputs = self._whole.inputs, self._whole.outputs
        self.note = ""
        self._parts: dict[tuple[tuple[int, ...], ...], list[Part]] = {}
        self._deciding = deciding(model.graph)
        self._decided: dict[tuple[object, ...], Partitioned] = {}

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Arrays in, arrays out, in the graph's order.

        Raises:
            TamagoError: B002, B032, B033: the inputs do not fit.
        """
        if self._deciding:
            return self._with_branches_taken(feeds, lambda program: program(feeds))
        parts = self._parts.get(self._key(feeds))
        if parts is None:
            try:
                return self._whole(feeds)
            except TamagoError as reason:
                if reason.code not in REFUSED:
                    raise
                large = reason.names if isinstance(reason, TooLarge) else frozenset[str]()
            parts = self._parts[self._key(feeds)] = self._cut_or_whole(feeds, large)
        known = {name: np.asarray(feeds[name]) for name in self.inputs}
        for part in parts:
            known |= zip(part.outputs, part.program({name: known[name] for name in part.inputs}), strict=True)
        return [known[name] for name in self.outputs]

    def run_keeping(self, feeds: Mapping[str, Any]) -> list[Any]:
        """A run whose state stays on the device; what is cut in parts keeps it in arrays.

        Raises:
            TamagoError: B002, B032, B033: the inputs do not fit.
        """
        if self._deciding:
            return self._with_branches_taken(feeds, lambda program: program.run_keeping(feeds))
        if self._key(feeds) not in self._parts:
            try:
                return self._whole.loaded(feeds).keeping(feeds)
            except TamagoError as reason:
                if reason.code not in REFUSED:
                    raise
        return self({name: np.asarray(value) for name, value in feeds.items()})

    def repeated(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """One run after another on the same inputs: those of a program that is whole stay on the device."""
        self(feeds)
        if self._deciding:
            return self._with_branches_taken(feeds, lambda program: program.repeated(feeds))
        return (lambda: self(feeds)) if self._key(feeds) in self._parts else self._whole.loaded(feeds).finished

    def _with_branches_taken(self, feeds: Mapping[str, Any], run: Callable[[Partitioned], Found]) -> Found:
        """What a program for these values of the inputs that decide does; the newest few programs are kept."""
        values = {name: np.asarray(feeds[name]) for name in self._deciding}
        key = tuple(array.item() for array in values.values())
        program = self._decided.pop(key, None)
        if program is None:
            model = decided(self.model, values)
            program = Partitioned(model, self.device, self._elsewhere, self._records)
            for oldest in list(self._decided)[: 1 - MOST_PROGRAMS]:
                del self._decided[oldest]
        self._decided[key] = program
        found = run(program)
        self.note = program.note
        return found

    def _key(self, feeds: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(np.shape(feeds[name])) for name in self.inputs)

    def _cut_or_whole(self, feeds: Mapping[str, Array], large: frozenset[str]) -> list[Part]:
        """Parts; the whole model elsewhere, where a part with the sizes of these inputs is nothing that runs there."""
        try:
            return self._cut(feeds, large)
        except TamagoError as reason:
            if reason.code != NOT_LOADED:
                raise
        self.note = "run by ONNX Runtime, for what there is no kernel for does not load alone"
        return [Part(self._elsewhere(self.model), tuple(self.inputs), tuple(self.outputs))]

    def _cut(self, feeds: Mapping[str, Array], large: frozenset[str]) -> list[Part]:
        """Parts of the model; what touches a value that is too large runs elsewhere."""
        shapes = {name: tuple(np.shape(feeds[name])) for name in self.inputs}
        model = specialised(self.model, shapes, is_known, few_copies=False)
        parts: list[Part] = []
        large = _named(model.graph, large, self.device.limits.most) if large else large

        def here(node: ir.Node) -> bool:
            return is_known(node) and not any(v is not None and v.name in large for v in (*node.inputs, *node.outputs))

        groups = _groups(model.graph, here)
        for known, nodes in groups:
            outside = [n for _, others in groups if others is not nodes for n in others]
            part = cut_out(model, nodes, outside)
            try:
                program = (self._on_device(part) if known else None) or self._elsewhere(part)
            except TooLarge as reason:  # what one kernel computed on the way is handed over now
                more = _named(model.graph, reason.names, self.device.limits.most) - large
                if more:
                    return self._cut(feeds, large | more)
                program = self._elsewhere(part)
            names = tuple(v.name or "" for v in part.graph.inputs), tuple(v.name or "" for v in part.graph.outputs)
            parts.append(Part(program, *names))
        strange = sorted({n.op_type for n in model.graph if not is_known(n)})
        why = f"for there is no kernel: {', '.join(strange or ['what the device refuses'])}"
        if large and not strange:
            why = f"for the device binds no buffers that large: {', '.join(sorted(large)[:3])}"
        self.note = f"run by ONNX Runtime, {why}"
        return [*parts, *_handed_through(model.graph)]

    def _on_device(self, part: ir.Model) -> Program | None:
        """Nodes that there are kernels for; None where the device refuses them for what they hold.

        Raises:
            TooLarge: a value does not fit a buffer.
        """
        program = Program(part, self.device, self._records)
        try:
            program.loaded({v.name or "": np.broadcast_to(np.float32(0), shape_of(v)) for v in part.graph.inputs})
        except TooLarge:
            raise
        except TamagoError as reason:
            if reason.code not in REFUSED:
                raise
            return None
        return program


def _named(graph: ir.Graph, large: frozenset[str], most: int | None) -> frozenset[str]:
    """Values that are too large, as the graph calls them: what was split has other names in the plan."""
    values = {v for n in graph for v in (*n.inputs, *n.outputs) if v is not None and v.name}
    found = frozenset(v.name or "" for v in values) & large
    if found or most is None:
        return found
    return frozenset(v.name or "" for v in values if v.shape is not None and 4 * prod(shape_of(v)) > most)


def _groups(graph: ir.Graph, here: Callable[[ir.Node], bool]) -> list[tuple[bool, list[ir.Node]]]:
    """Nodes by place, such that every group reads only what came before it; as few groups as that allows."""
    levels: dict[ir.Node, int] = {}
    for node in graph:
        level = 0 if here(node) else 1  # even levels are the device's
        for value in (*node.inputs, *captured(node)):
            producer = None if value is None else value.producer()
            if producer is not None and producer in levels:
                same = levels[producer] % 2 == (0 if here(node) else 1)
                level = max(level, levels[producer] + (0 if same else 1))
        levels[node] = level
    found: dict[int, list[ir.Node]] = {}
    for node, level in levels.items():
        found.setdefault(level, []).append(node)
    return [(level % 2 == 0, found[level]) for level in sorted(found)]


def cut_out(model: ir.Model, nodes: Sequence[ir.Node], outside: Sequence[ir.Node]) -> ir.Model:
    """Some nodes of a model as one of their own.

    Args:
        model: not changed.
        nodes: in topological order.
        outside: the model's other nodes: what they read of these is an output.
    """
    inside = set(nodes)
    read = list(dict.fromkeys(v for n in nodes for v in (*n.inputs, *captured(n)) if v is not None))
    inputs = [v.name or "" for v in read if v.const_value is None and v.producer() not in inside]
    wanted = {v for n in outside for v in (*n.inputs, *captured(n))} | set(model.graph.outputs)
    outputs = [v.name or "" for n in nodes for v in n.outputs if v in wanted]
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    return ir.Model(graph, ir_version=model.ir_version)


def _handed_through(graph: ir.Graph) -> list[Part]:
    """Outputs that are constants."""
    fixed = [v for v in graph.outputs if v.const_value is not None]
    if not fixed:
        return []
    arrays = [np.asarray(v.const_value.numpy()) for v in fixed if v.const_value is not None]
    return [Part(lambda feeds: arrays, (), tuple(v.name or "" for v in fixed))]
