"""Weights of layers with a matrix taken in on one side: copies of their own, shared where they are equal."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Floats
from ...compiler.ir import constant_tensor, dims, metadata, new_constant, op_name
from ...compiler.rule import Skip
from .layers import Layer, contents, vector
from .residual_stream import Edge, Stream

Basis = Callable[[ir.Value], Floats]  # a value of the stream → [features, directions] that its last axis is to hold


class Weights:
    """Writes new constants into a graph; those that come from equal ones in the same way are one.

    Args:
        graph: changed in place.
        fresh: gives an unused name that starts with its argument.
        origin: what is done, recorded in each node that changes.
    """

    def __init__(self, graph: ir.Graph, fresh: Callable[[str], str], origin: str) -> None:
        self.graph, self.fresh, self.origin = graph, fresh, origin
        self._made: dict[Hashable, ir.Value] = {}
        self._matrices: dict[int, Floats] = {}

    def constant(self, key: Hashable, make: Callable[[], Floats]) -> ir.Value:
        """An initializer; the same one for the same key."""
        if key not in self._made:
            self._made[key] = self._constant(make())
        return self._made[key]

    def read(self, layer: Layer, matrix: Floats, key: Hashable) -> None:
        """W ← A·W, with A as [new inputs, inputs]."""
        self._change(layer, "read", key, lambda w: matrix @ w if layer.rows == 0 else w @ matrix.T)

    def write_all(self, stream: Stream, basis: Basis) -> None:
        """W ← W·B, b ← b·B of all that writes to a stream; B may differ from value to value."""
        for layer in stream.writers:
            self.write(layer, basis(layer.node.outputs[0]))
        for edge in stream.constants:
            self._turn_constant(edge, stream.width, basis(edge.result))

    def write(self, layer: Layer, matrix: Floats) -> None:
        """W ← W·B and C ← C·B, with B as [outputs, new outputs]."""
        key = self._key(matrix)
        if layer.is_convolution:
            self._change(layer, "write", key, lambda w: np.tensordot(matrix, w, (0, 0)))
        else:
            self._change(layer, "write", key, lambda w: w @ matrix if layer.rows == 0 else matrix.T @ w)
        addend = layer.addend
        if addend is not None and constant_tensor(addend) is not None:
            self._turn_constant(Edge(layer.node, 2, -1, layer.node.outputs[0]), len(matrix), matrix)

    def add_bias(self, layer: Layer, bias: Floats) -> None:
        """Add to y = x·W, in the layer's own C, in the constant that is added next, or in an Add of its own."""
        if layer.node.op_type == "Gemm":
            self._add_to_gemm(layer, bias)
            return
        output = layer.node.outputs[0]
        uses = list(output.uses())
        if len(uses) == 1 and not output.is_graph_output() and self._add_to_next(uses[0].node, 1 - uses[0].idx, bias):
            return
        value = self._constant(bias)
        result = ir.Value(name=self.fresh("tamago/value"), type=output.type, shape=output.shape)
        add = ir.Node("", "Add", [output, value], outputs=[result], name=self.fresh(f"tamago/{self.origin}"))
        self.mark(add, layer.node)
        self.graph.insert_after(layer.node, [add])
        for use in uses:
            use.node.replace_input_with(use.idx, result)
        for position, known in enumerate(self.graph.outputs):
            if known is output:
                self.graph.outputs[position] = result
                name, output.name = output.name, None
                output.name, result.name = result.name, name

    def mark(self, node: ir.Node, source: ir.Node | None = None) -> None:
        """Record what was done to a node, or what it was made from."""
        name = (source or node).name or node.op_type
        node.metadata_props.update(metadata(self.origin, [name]))

    def _add_to_next(self, node: ir.Node, position: int, bias: Floats) -> bool:
        """Into the constant that the only reader adds, if it adds one."""
        adds = op_name(node) in ("Add", "com.microsoft::BiasGelu") and position in (0, 1)
        held = vector(node.inputs[position], len(bias)) if adds and node.inputs[position] is not None else None
        if held is None or not _is_row(node.inputs[position], len(bias)):
            return False
        node.replace_input_with(position, self._constant(held + bias))
        self.mark(node)
        return True

    def _add_to_gemm(self, layer: Layer, bias: Floats) -> None:
        node, addend = layer.node, layer.addend
        if addend is not None and constant_tensor(addend) is None:
            raise Skip(f"{node.name or 'a Gemm'} adds what is computed, and cannot take in a shift as well")
        held = np.zeros(len(bias)) if addend is None else contents(addend)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(2, self._constant(held + bias / layer.beta))
        self.mark(node)

    def _constant(self, array: Floats) -> ir.Value:
        value = new_constant(self.fresh(f"tamago/{self.origin}"), np.ascontiguousarray(array, np.float32))
        self.graph.register_initializer(value)
        return value

    def _change(self, layer: Layer, side: str, key: Hashable, change: Callable[[Floats], Floats]) -> None:
        old = layer.node.inputs[layer.weight]
        new = self.constant((old, side, layer.rows, key), lambda: change(contents(old)))
        layer.node.replace_input_with(layer.weight, new)
        self.mark(layer.node)

    def _turn_constant(self, edge: Edge, width: int, matrix: Floats) -> None:
        """C ← C·B along the axis of the features, on which C may have been broadcast."""
        old = edge.node.inputs[edge.position]

        def turned() -> Floats:
            array = contents(old)
            array = array.reshape((1,) * (-edge.axis - array.ndim) + array.shape)
            array = np.moveaxis(array, edge.axis, -1)
            return np.moveaxis(np.broadcast_to(array, (*array.shape[:-1], width)) @ matrix, -1, edge.axis)

        new = self.constant((old, "constant", edge.axis, self._key(matrix)), turned)
        edge.node.replace_input_with(edge.position, new)
        self.mark(edge.node)

    def _key(self, matrix: Floats) -> int:
        """A name for a matrix: the object itself, kept alive."""
        self._matrices[id(matrix)] = matrix
        return id(matrix)


def _is_row(value: ir.Value | None, width: int) -> bool:
    """Whether a constant is a vector of that width: BiasGelu takes no other."""
    return value is not None and dims(value) == (width,)


def narrowed(value: ir.Value, axis: int, width: int) -> None:
    """Say that an axis has another size."""
    shape = dims(value)
    assert shape is not None
    sizes = list(shape)
    sizes[axis] = width
    value.shape = ir.Shape(sizes)
