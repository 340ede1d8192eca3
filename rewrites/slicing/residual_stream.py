"""Residual streams: values that sums connect, written by linear layers and embeddings, read through normalisations.

Everything that writes to such a stream, and everything that reads it, is linear in its features up to the length of
the vector. So the features may be expressed in any orthonormal basis (Ashkboos et al., SliceGPT: computational
invariance), and a stream is what one basis, or one for each point where it is read, can be chosen for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Floats
from ...compiler.ir import attribute_values, constant_tensor, dims, op_name
from ...compiler.rule import Skip
from .layers import FLOAT, Layer, Norm, layer_of, norm_of, vector
from .row_operators import operands

KEEPS_SHIFT = ("Identity", "Transpose", "Slice", "Gather", "ReduceMean", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class Affine:
    """What stands between the stream and a layer: a norm without its own scale and shift, then n·diag(scale) + shift.

    Args:
        norm: the normalisation.
        scale: of each feature, [width].
        shift: of each feature, [width].
    """

    norm: Norm
    scale: Floats
    shift: Floats


@dataclass(frozen=True)
class Reading:
    """A linear layer that reads the stream.

    Args:
        layer: its first operand is what it reads.
        point: the value of the stream.
        affine: what stands in between; None: it reads the stream itself.
    """

    layer: Layer
    point: ir.Value
    affine: Affine | None = None


@dataclass(frozen=True)
class Edge:
    """An operand that must be in the basis of the result."""

    node: ir.Node
    position: int
    axis: int
    result: ir.Value


@dataclass
class Stream:
    """One residual stream.

    Args:
        width: features.
        values: its values → the axis of the features, from the end.
        edges: operands of its sums and of what moves its rows, in the graph's order.
        constants: those among the operands that are constants.
        writers: layers whose result is in it.
        norms: normalisations that read it.
        readings: layers that read it.
        normalised: values between normalisations and layers → axis.
        affine: constant products and sums on those, which layers can take in.
    """

    width: int
    values: dict[ir.Value, int] = field(default_factory=dict[ir.Value, int])
    edges: list[Edge] = field(default_factory=list[Edge])
    constants: list[Edge] = field(default_factory=list[Edge])
    writers: list[Layer] = field(default_factory=list[Layer])
    norms: list[Norm] = field(default_factory=list[Norm])
    readings: list[Reading] = field(default_factory=list[Reading])
    normalised: dict[ir.Value, int] = field(default_factory=dict[ir.Value, int])
    affine: list[ir.Node] = field(default_factory=list[ir.Node])

    @property
    def centred(self) -> bool:
        """Whether its readers take the mean off."""
        return any(n.centred for n in self.norms)

    @property
    def points(self) -> list[ir.Value]:
        """Values at which it is read, in the graph's order."""
        read = {n.x for n in self.norms} | {r.point for r in self.readings}
        return [v for v in self.values if v in read]

    def bases(self) -> dict[ir.Value, ir.Value]:
        """For each value the point whose basis it is written in: its own, or that of what it is added to first."""
        points, found = set(self.points), dict[ir.Value, ir.Value]()
        first: dict[ir.Value, ir.Value] = {}
        for edge in self.edges:
            operand = edge.node.inputs[edge.position]
            assert operand is not None
            first.setdefault(operand, edge.result)
        for value in reversed(self.values):
            onward = first.get(value)
            found[value] = value if value in points or onward is None else found[onward]
        return found


def find_streams(graph: ir.Graph) -> list[Stream]:
    """Every residual stream of the graph (not of the bodies in it).

    Raises:
        Skip: there is none; the reason is that of the first normalisation.
    """
    order = {node: i for i, node in enumerate(graph)}
    found: list[Stream] = []
    reasons: list[str] = []
    seen: set[ir.Value] = set()
    for norm in filter(None, map(norm_of, graph)):
        if norm.x in seen:
            continue
        walk = _Walk(graph, len(norm.scale))
        try:
            walk.run(norm.x)
            found.append(_ordered(walk.stream, order))
        except Skip as reason:
            reasons.append(f"{norm.node.name or op_name(norm.node)}: {reason}")
        seen.update(walk.stream.values)
    if not found:
        raise Skip(reasons[0] if reasons else "nothing in the model is normalised over its features")
    return found


def _ordered(stream: Stream, order: dict[ir.Node, int]) -> Stream:
    """The same in the graph's order."""

    def made(value: ir.Value) -> int:
        producer = value.producer()
        return -1 if producer is None else order[producer]

    return replace(
        stream,
        values={v: stream.values[v] for v in sorted(stream.values, key=made)},
        edges=sorted(stream.edges, key=lambda e: (order[e.node], e.position)),
        constants=sorted(stream.constants, key=lambda e: (order[e.node], e.position)),
        writers=sorted(stream.writers, key=lambda w: order[w.node]),
        norms=sorted(stream.norms, key=lambda n: order[n.node]),
        readings=sorted(stream.readings, key=lambda r: order[r.layer.node]),
    )


class _Walk:
    """From one value of a stream to all of it."""

    def __init__(self, graph: ir.Graph, width: int) -> None:
        self.graph = graph
        self.stream = Stream(width)
        self.queue: list[ir.Value] = []
        self.visited: set[ir.Node] = set()

    def run(self, first: ir.Value) -> None:
        """Raises Skip where something on the stream depends on the basis."""
        self.add(first, -1)
        while self.queue:
            value = self.queue.pop()
            self.maker(value)
            for node, position in _readers(value):
                self.reader(value, node, position)
        if self.stream.centred and not all(n.centred for n in self.stream.norms):
            raise Skip("some of its normalisations take the mean off and some do not")
        if self.stream.centred and any(r.affine is None for r in self.stream.readings):
            raise Skip("its mean is taken off by normalisations, and read by a layer")

    def add(self, value: ir.Value, axis: int) -> None:
        """One more value of the stream."""
        known = self.stream.values.get(value)
        if known is not None and known != axis:
            raise Skip(f"{value.name} carries the features on two axes")
        if known is not None:
            return
        shape, producer = dims(value), value.producer()
        if shape is None or len(shape) < -axis or shape[axis] != self.stream.width:
            raise Skip(f"{value.name} is broadcast to the stream, or its shape is not known")
        if producer is None or producer.graph is not self.graph:
            raise Skip(f"{value.name} on the stream is an input")
        if value.is_graph_output():
            raise Skip(f"{value.name} on the stream is an output")
        if value.dtype != FLOAT:
            raise Skip(f"{value.name} is not float32")
        self.stream.values[value] = axis
        self.queue.append(value)

    def maker(self, value: ir.Value) -> None:
        """What a value is made by: a layer, or what commutes with a change of basis."""
        node, axis = value.producer(), self.stream.values[value]
        assert node is not None
        if node in self.visited:
            return
        layer = layer_of(node)
        if norm_of(node) is not None:
            raise Skip(f"{value.name} on the stream is made by a normalisation")
        if layer is None:
            self.join(node, None, axis)
            return
        if axis != layer.output_axis or value is not node.outputs[0]:
            raise Skip(f"{node.name or node.op_type} writes its outputs to another axis than the features'")
        self.visited.add(node)
        self.stream.writers.append(layer)
        addend = layer.addend
        if addend is not None and constant_tensor(addend) is None:
            self.stream.edges.append(Edge(node, 2, -1, value))
            self.add(addend, -1)

    def reader(self, value: ir.Value, node: ir.Node, position: int) -> None:
        """What becomes of a value: it is normalised, multiplied by a weight, or goes on."""
        axis = self.stream.values[value]
        if node.graph is not self.graph:
            raise Skip(f"{value.name} is read inside {node.name or node.op_type}, in a body")
        layer, norm = layer_of(node), norm_of(node)
        if norm is not None and position == 0 and axis == -1:
            self.stream.norms.append(norm)
            self.after(node.outputs[0], -1, value, Affine(norm, norm.scale, norm.shift))
        elif layer is not None and position == 0 and axis == -1 and not layer.is_convolution:
            self.stream.readings.append(Reading(layer, value))
        elif layer is not None and position == 2 and not layer.is_convolution:
            self.add(node.outputs[0], -1)
        elif not _is_shape_of_rows(node, value, axis):
            self.join(node, position, axis)

    def join(self, node: ir.Node, position: int | None, axis: int) -> None:
        """A node that commutes with a change of basis: all its operands and its result are on the stream."""
        if node in self.visited:
            return
        found, result = operands(node, position, axis), node.outputs[0]
        self.visited.add(node)
        self.add(result, found.output)
        for place, along in found.inputs:
            value = node.inputs[place]
            assert value is not None
            edge = Edge(node, place, along, result)
            if constant_tensor(value) is not None:
                self.stream.constants.append(edge)
                continue
            self.stream.edges.append(edge)
            self.add(value, along)

    def after(self, value: ir.Value, axis: int, point: ir.Value, affine: Affine) -> None:
        """Follow a normalised value to the layers that read it."""
        if value.is_graph_output():
            raise Skip(f"the normalised {value.name} is an output")
        self.stream.normalised[value] = axis
        for node, position in _readers(value):
            layer = layer_of(node)
            if node.graph is not self.graph:
                raise Skip(f"{value.name} is read inside {node.name or node.op_type}, in a body")
            if layer is not None and position == 0 and axis == -1 and not layer.is_convolution:
                self.stream.readings.append(Reading(layer, point, affine))
            elif not _is_shape_of_rows(node, value, axis):
                self.onward(node, position, axis, point, affine)

    def onward(self, node: ir.Node, position: int, axis: int, point: ir.Value, affine: Affine) -> None:
        """A constant product or sum, or what moves rows, on a normalised value."""
        name = op_name(node)
        if name in ("Mul", "Add") and axis == -1:
            other = vector(node.inputs[1 - position], self.stream.width)
            shape, whole = dims(node.outputs[0]), dims(node.inputs[position] or node.outputs[0])
            if other is None or node.inputs[1 - position] is None or shape is None or shape != whole:
                raise Skip(f"{node.name or name} reads a normalised value")
            scale, shift = affine.scale, affine.shift
            scale, shift = (scale * other, shift * other) if name == "Mul" else (scale, shift + other)
            self.stream.affine.append(node)
            self.after(node.outputs[0], -1, point, Affine(affine.norm, scale, shift))
            return
        if name not in KEEPS_SHIFT or position != 0:
            raise Skip(f"{node.name or name} reads a normalised value")
        self.after(node.outputs[0], operands(node, 0, axis).output, point, affine)


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    for use in list(value.uses()):
        yield use.node, use.idx


def _is_shape_of_rows(node: ir.Node, value: ir.Value, axis: int) -> bool:
    """A Shape that leaves out the features."""
    shape = dims(value)
    if op_name(node) != "Shape" or shape is None:
        return False
    stated = attribute_values(node)
    place = axis + len(shape)
    return place not in np.arange(len(shape))[slice(stated.get("start", 0), stated.get("end"))]
