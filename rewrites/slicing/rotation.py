"""A residual stream in other orthonormal bases, whole or cut to the first directions of each.

W ← W·Q for what writes, W ← Qᵀ·W for what reads, Qⱼᵀ·Q where a value in basis j is added to one in basis Q. Of
x = Q·z with d of D numbers, mean(x²) = d/D·mean(z²), so that x/√(mean(x²) + ε) = √(D/d)·z/√(mean(z²) + ε·D/d): the
factor goes into what reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Floats
from ...compiler.fold import remove_unused
from ...compiler.ir import constant_tensor, op_name, unique_names
from ...compiler.optimise import Names
from ...compiler.rule import Skip
from .canonical import plain_norm
from .residual_stream import Stream, find_streams
from .row_operators import stated_shape
from .weights import Weights, narrowed


def rotated(model: ir.Model, bases: Mapping[str, Floats], origin: str, *, divisor: bool = True) -> ir.Model:
    """A copy of a canonical model with its residual streams in other bases.

    Args:
        model: from `canonical`.
        bases: for each point of its streams (`Stream.points`), by name, Q as [features, directions] with orthonormal
            columns; points that share a basis share the array.
        origin: the method's name, recorded in nodes that change.
        divisor: norms divide by the energy over the old width, as they must; False: over the new one.

    Raises:
        Skip: something in the model states the old width in a way that cannot be changed.
    """
    result = model.clone()
    graph = result.graph
    weights = Weights(graph, Names(unique_names(graph)), origin)
    for stream in find_streams(graph):
        _Turn(stream, bases, weights, divisor).run()
    remove_unused(graph)
    return result


@dataclass
class _Turn:
    stream: Stream
    bases: Mapping[str, Floats]
    weights: Weights
    divisor: bool

    def __post_init__(self) -> None:
        points = self.stream.bases()
        self.basis: dict[ir.Value, Floats] = {v: self.bases[p.name or ""] for v, p in points.items()}

    def run(self) -> None:
        stream = self.stream
        self._shortcuts()
        self.weights.write_all(stream, lambda value: self.basis[value])
        for reading in stream.readings:
            basis = self.basis[reading.point]
            factor = 1.0 if reading.affine is None else self._factor(basis)
            self.weights.read(reading.layer, basis.T * factor, (id(basis), factor))
        sources = {n.node.outputs[0]: self.basis[n.x] for n in stream.norms}
        self._narrow(sources)
        for norm in stream.norms:
            basis = self.basis[norm.x]
            ratio = self._factor(basis) ** 2
            plain_norm(norm.node, basis.shape[1], norm.epsilon * ratio, self.weights)

    def _factor(self, basis: Floats) -> float:
        return float(np.sqrt(len(basis) / basis.shape[1])) if self.divisor else 1.0

    def _shortcuts(self) -> None:
        """Multiply by QⱼᵀQ on edges between different bases."""
        made: dict[tuple[ir.Value, int], ir.Value] = {}
        for edge in self.stream.edges:
            value = edge.node.inputs[edge.position]
            assert value is not None
            before, after = self.basis[value], self.basis[edge.result]
            if before is after:
                continue
            if self.stream.values[value] != -1:
                raise Skip(f"{value.name} is added to what is in another basis, and its features are not last")
            key = (value, id(after))
            if key not in made:
                made[key] = self._shortcut(value, before, after)
            edge.node.replace_input_with(edge.position, made[key])

    def _shortcut(self, value: ir.Value, before: Floats, after: Floats) -> ir.Value:
        weights, maker = self.weights, value.producer()
        assert maker is not None
        matrix = weights.constant(("shortcut", id(before), id(after)), lambda: before.T @ after)
        output = ir.Value(name=weights.fresh("tamago/value"), type=value.type, shape=value.shape)
        narrowed(output, -1, after.shape[1])
        node = ir.Node("", "MatMul", [value, matrix], outputs=[output], name=weights.fresh(f"tamago/{weights.origin}"))
        weights.mark(node, maker)
        weights.graph.insert_after(maker, [node])
        return output

    def _narrow(self, sources: Mapping[ir.Value, Floats]) -> None:
        """Sizes that values have, and that Reshape and Expand state."""
        stream, widths = self.stream, dict[ir.Value, int]()
        for value in stream.values:
            widths[value] = self.basis[value].shape[1]
        for value in stream.normalised:
            source = value
            while source not in sources:
                maker = source.producer()
                assert maker is not None
                assert maker.inputs[0] is not None
                source = maker.inputs[0]
            widths[value] = sources[source].shape[1]
        for value, axis in (*stream.values.items(), *stream.normalised.items()):
            maker = value.producer()
            if maker is not None:
                self._restate(maker, value, axis, widths[value])
            narrowed(value, axis, widths[value])

    def _restate(self, node: ir.Node, value: ir.Value, axis: int, width: int) -> None:
        if op_name(node) not in ("Reshape", "Expand") or width == self.stream.width:
            return
        assert value.shape is not None
        place, weights = axis + len(value.shape), self.weights
        for reader, position, first in list(stated_shape(node)):
            old = reader.inputs[position]
            tensor = None if old is None else constant_tensor(old)
            if old is None or tensor is None or not first <= place < first + tensor.size:
                continue
            entries = tensor.numpy().copy()
            if entries[place - first] != self.stream.width:
                return  # 0 and -1 state no width
            entries[place - first] = width
            self._replace_shape(node, reader, position, entries)
            weights.mark(node)
            return
        raise Skip(f"{node.name or node.op_type} takes a shape that is computed")

    def _replace_shape(self, node: ir.Node, reader: ir.Node, position: int, entries: Floats) -> None:
        """The node's own copy of the shape, and of the Concat that joins it."""
        weights = self.weights
        constant = ir.Value(name=weights.fresh("tamago/shape"), const_value=ir.tensor(entries))
        constant.shape, constant.type = ir.Shape(entries.shape), ir.TensorType(ir.DataType.INT64)
        weights.graph.register_initializer(constant)
        if reader is node:
            node.replace_input_with(position, constant)
            return
        inputs = list(reader.inputs)
        inputs[position] = constant
        old = reader.outputs[0]
        output = ir.Value(name=weights.fresh("tamago/shape"), type=old.type, shape=old.shape)
        joined = ir.Node("", "Concat", inputs, list(reader.attributes.values()), outputs=[output])
        joined.name = weights.fresh("tamago/shape")
        weights.mark(joined, reader)
        weights.graph.insert_after(reader, [joined])
        node.replace_input_with(1, output)
