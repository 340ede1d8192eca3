"""A program in half precision as one in single precision, cast at its borders.

A runtime without kernels for halves does as much when it loads a program: ONNX Runtime casts where values enter and
leave a region of such operators, and rounds nowhere in between. Nothing that looks at the program before that sees it.
Weights are made wide here, so that forms of single precision find them; `half_storage.py` stores them in half again.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .ir import bodies, graphs, new_constant, op_name, unique_names, weights
from .optimise import Names
from .rule import Skip
from .schema import schema_of

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
DOMAINS = ("", "com.microsoft", "ai.tamago")  # whose operators take singles wherever they take halves
TYPES = ("to", "dtype", "output_dtype", "output_datatype")  # attributes that name the type of elements


def may_compute_in_half(model: ir.Model) -> bool:
    """Whether halves are given to it or lie in it: no types of values need be known."""
    return any(map(_is_half, model.graph.inputs)) or any(tensor.dtype == HALF for tensor in weights(model))


def in_single_precision(model: ir.Model) -> None:
    """f(x) = half(g(single(x))), where g is f with singles for halves: equal but for rounding, and for overflow.

    Args:
        model: satisfies the IR's invariants. Changed in place; its inputs and outputs keep their types.

    Raises:
        Skip: nothing is computed in half, or where its type is not ours to change.
    """
    graph = model.graph
    if not any(_is_half(value) for inner in graphs(graph) for node in inner for value in node.outputs):
        raise Skip("nothing is computed in half precision")  # weights may lie in it, and be cast
    _check(graph)
    constants = [value for value in graph.initializers.values() if value.is_graph_output()]
    kept = {value for value in (*graph.inputs, *constants) if _is_half(value)}
    asked = [value for value in dict.fromkeys(graph.outputs) if _is_half(value) and value not in kept]
    for inner in graphs(graph):
        _retype(inner, kept)
    fresh = Names(unique_names(graph))
    for value in kept:
        read_in_single(graph, value, fresh)
    for value in asked:
        _give_back(graph, value, fresh)


def _check(graph: ir.Graph) -> None:
    for inner in graphs(graph):
        for node in inner:
            if _is_known(node):
                continue
            if bodies(node) or any(v is not None and _may_be_half(v) for v in (*node.inputs, *node.outputs)):
                raise Skip(f"{op_name(node)}, of which nothing is known, may compute with halves")
        if any(v.producer() is None and not (v in inner.inputs or v.is_initializer()) for v in inner.outputs):
            raise Skip("a body gives back what is not its own")
    for value in (*graph.inputs, *graph.outputs):
        if _is_half(value) and not isinstance(value.type, ir.TensorType):
            raise Skip(f"{value.name} is no tensor")


def _is_known(node: ir.Node) -> bool:
    """Whether the node means the same for singles; one that looks at bits does not."""
    if node.op_type == "BitCast" or any(attribute.is_ref() for attribute in node.attributes.values()):
        return False
    return node.domain in DOMAINS[1:] or (node.domain == "" and schema_of(op_name(node)) is not None)


def _is_half(value: ir.Value) -> bool:
    return value.type is not None and value.dtype == HALF


def _may_be_half(value: ir.Value) -> bool:
    return value.type is None or value.dtype == HALF


def _retype(graph: ir.Graph, kept: set[ir.Value]) -> None:
    for value in list(graph.initializers.values()):
        if _is_half(value) and value not in kept and value.const_value is not None:
            single = new_constant(value.name or "", np.asarray(value.const_value.numpy()).astype(np.float32))
            value.const_value, value.type = single.const_value, single.type
    for node in graph:
        for name, attribute in list(node.attributes.items()):
            node.attributes[name] = _attribute(attribute)
    for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
        if _is_half(value) and value not in kept:
            value.type = _single(value.type)


def _attribute(attribute: ir.Attr) -> ir.Attr:
    if attribute.type == ir.AttributeType.INT and attribute.name in TYPES and attribute.value == HALF:
        return ir.AttrInt64(attribute.name, int(SINGLE))
    if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == HALF:
        return ir.AttrTensor(attribute.name, ir.tensor(attribute.value.numpy().astype(np.float32)))
    return attribute


def _single(kind: ir.TypeProtocol | None) -> ir.TypeProtocol:
    """A type of halves as one of singles: of a tensor, or of a sequence of them."""
    if isinstance(kind, ir.SequenceType):
        return ir.SequenceType(_single(kind.elem_type))
    if isinstance(kind, ir.OptionalType):
        return ir.OptionalType(_single(kind.elem_type))
    return ir.TensorType(SINGLE)


def read_in_single(graph: ir.Graph, value: ir.Value, fresh: Names) -> None:
    """Whoever reads a value in half reads it in single precision, cast at the start of the graph."""
    output = ir.Value(name=fresh(f"{value.name}/single"), shape=value.shape, type=ir.TensorType(SINGLE))
    for node, position in list(value.uses()):
        node.replace_input_with(position, output)
    first, cast = next(iter(graph), None), _cast(value, output, fresh)
    graph.append(cast) if first is None else graph.insert_before(first, cast)


def _give_back(graph: ir.Graph, value: ir.Value, fresh: Names) -> None:
    """An output in half under its name; inside it is read as it was computed."""
    output = ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(HALF))
    value.name = fresh(f"{value.name}/single")
    graph.append(_cast(value, output, fresh))
    for position, asked in enumerate(graph.outputs):
        if asked is value:
            graph.outputs[position] = output


def _cast(value: ir.Value, output: ir.Value, fresh: Names) -> ir.Node:
    to = ir.AttrInt64("to", int(HALF if output.dtype == HALF else SINGLE))
    return ir.Node("", "Cast", [value], [to], outputs=[output], name=fresh(f"{value.name}/cast"))
