"""What needs no search: constants computed, shapes known ahead folded, equal nodes shared, decided branches taken.

One linear walk over a graph before it is cut into blocks, and again after; every step leaves fewer nodes. Bodies of
If, Loop and Scan are walked like any graph (values captured from outside may be constants too).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import numpy as np
import onnx_ir as ir

from .evaluate import LEFT, CannotEvaluate, evaluate
from .facts import Array, Dim, item_bytes
from .ir import (
    attribute_values,
    bodies,
    constant_array,
    constant_tensor,
    describe_attributes,
    dims,
    graphs,
    is_opaque,
    new_constant,
    op_name,
)
from .saturate import LARGEST_FOLD
from .shape_data import shape_data

Fresh = Callable[[str], str]
FEW = 16  # elements of a constant that is known by its contents


def fold(graph: ir.Graph, version: int, fresh: Fresh, stays: Callable[[ir.Node], bool] = lambda node: False) -> int:
    """Fold a graph and its bodies in place.

    Args:
        graph: topologically sorted.
        version: opset of the default domain.
        fresh: gives an unused name that starts with its argument.
        stays: whether a node is not computed here although all it reads is known.

    Returns:
        How many nodes went away.
    """
    before = sum(1 for g in graphs(graph) for _ in g)
    for inner in list(graphs(graph)):
        lift_constants(inner, fresh)
        _fold_nodes(inner, version, fresh, stays)
    for inner in list(graphs(graph)):
        remove_unused(inner)
    return before - sum(1 for g in graphs(graph) for _ in g)


def lift_constants(graph: ir.Graph, fresh: Fresh) -> None:
    """`Constant` nodes become initializers; those whose value is a graph output stay."""
    for node in list(graph):
        if op_name(node) != "Constant" or node.outputs[0].is_graph_output():
            continue
        tensor = _constant_tensor(node)
        if tensor is None:
            continue
        old = node.outputs[0]
        name = old.name or fresh("constant")
        if name in graph.initializers:
            name = fresh(name)
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        old.name = f"{name}/lifted"
        graph.register_initializer(value)
        old.replace_all_uses_with(value)
        graph.remove(node, safe=True)


def _constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    for name, attribute in node.attributes.items():
        match name:
            case "value":
                return attribute.as_tensor()
            case "value_int" | "value_ints":
                return ir.tensor(np.asarray(attribute.value, dtype=np.int64))
            case "value_float" | "value_floats":
                return ir.tensor(np.asarray(attribute.value, dtype=np.float32))
            case _:
                return None
    return None


def _fold_nodes(graph: ir.Graph, version: int, fresh: Fresh, stays: Callable[[ir.Node], bool]) -> None:
    known: dict[ir.Value, tuple[Dim, ...]] = {}
    same: dict[tuple[object, ...], ir.Node] = {}
    for node in list(graph):
        if op_name(node) == "If" and take_branch(graph, node, fresh):
            continue
        if is_opaque(node):
            continue
        twin = _twin(node, same)
        if twin is not None:
            _replace(graph, node, list(twin.outputs))
            continue
        if op_name(node) == "Identity" and not node.outputs[0].is_graph_output() and node.inputs[0] is not None:
            _replace(graph, node, [node.inputs[0]])
            continue
        data = shape_data(node, known)
        if data is not None:
            known[node.outputs[0]] = data
        arrays = _known_contents(node, data) or (None if stays(node) or is_of_codes(node) else _compute(node, version))
        if arrays is not None and not any(v.is_graph_output() for v in node.outputs):
            _replace(graph, node, [_constant(graph, a, v, fresh) for a, v in zip(arrays, node.outputs, strict=False)])


_VIEWS = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})


def merge_twins(graph: ir.Graph) -> None:
    """What several nodes compute alike is computed once; in place, nothing else is folded."""
    same: dict[tuple[object, ...], ir.Node] = {}
    for node in list(graph):
        twin = None if is_opaque(node) else _twin(node, same)
        if twin is not None:
            _replace(graph, node, list(twin.outputs))


def is_of_codes(node: ir.Node) -> bool:
    """Whether a node makes numbers of codes for a reader that computes with codes: then it should not be computed.

    A reader does so if another of its operands is made of codes that are not known before, or its result becomes codes:
    the runtime has one kernel for all of it. Given numbers it quantises them anew, otherwise than the model's author.
    """
    if op_name(node) != "DequantizeLinear":
        return False
    return any(
        _becomes_codes(reader) or any(_is_made_of_codes(other) for other in reader.inputs if other is not value)
        for value, reader in _readers(node.outputs[0])
    )


def _readers(value: ir.Value) -> Iterator[tuple[ir.Value, ir.Node]]:
    """Who reads a value, in another shape or order perhaps, and what it reads."""
    for reader, _ in value.uses():
        if op_name(reader) in _VIEWS:
            yield from _readers(reader.outputs[0])
        else:
            yield value, reader


def _is_made_of_codes(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    if node is None or op_name(node) != "DequantizeLinear":
        return False
    return node.inputs[0] is not None and constant_tensor(node.inputs[0]) is None


def _becomes_codes(node: ir.Node) -> bool:
    return any(op_name(reader) == "QuantizeLinear" for value in node.outputs for reader, _ in value.uses())


def _twin(node: ir.Node, same: dict[tuple[object, ...], ir.Node]) -> ir.Node | None:
    """An earlier node that computes the same from the same values."""
    if any(v.is_graph_output() for v in node.outputs):
        return None
    used = tuple(bool(v.name) for v in node.outputs)
    key = (op_name(node), describe_attributes(node), tuple(map(_operand, node.inputs)), used)
    found = same.setdefault(key, node)
    if found.graph is None:  # it went away itself since: its results are nobody's
        found = same[key] = node
    return found if found is not node else None


def _operand(value: ir.Value | None) -> Hashable:
    """The same for equal operands: the value, or a small constant's contents, which every rule writes anew."""
    array = None if value is None else constant_array(value, FEW)
    return id(value) if array is None else (str(array.dtype), array.shape, array.tobytes())


def _known_contents(node: ir.Node, data: tuple[Dim, ...] | None) -> list[Array] | None:
    """A shape computation whose every number is known, although its input is not a constant."""
    if data is None or not all(isinstance(d, int) for d in data) or len(node.outputs) != 1:
        return None
    output = node.outputs[0]
    shape = dims(output)
    if output.dtype is None or shape is None or len(shape) > 1:
        return None
    return [np.asarray(data, dtype=output.dtype.numpy()).reshape([len(data)] if shape else [])]


def _compute(node: ir.Node, version: int) -> list[Array] | None:
    if op_name(node) in LEFT or (not node.inputs and op_name(node) not in ("ConstantOfShape",)):
        return None
    tensors = [None if v is None else constant_tensor(v) for v in node.inputs]
    if any(
        v is not None and (t is None or t.dtype == ir.DataType.STRING)
        for v, t in zip(node.inputs, tensors, strict=True)
    ):
        return None
    if _too_large(node, [t for t in tensors if t is not None]):
        return None
    try:
        arrays = [None if t is None else t.numpy() for t in tensors]
        found = evaluate(op_name(node), attribute_values(node), arrays, version, len(node.outputs))
    except CannotEvaluate:
        return None
    largest = max(LARGEST_FOLD, sum(t.nbytes for t in tensors if t is not None))
    return found if sum(a.nbytes for a in found) <= largest else None


def _too_large(node: ir.Node, tensors: list[ir.TensorProtocol]) -> bool:
    """Refuse before computing what would be enormous: sizes are read from the inferred shape."""
    bytes_out = 0
    for value in node.outputs:
        shape = dims(value)
        if shape is None or value.dtype is None or not all(isinstance(d, int) for d in shape):
            # No shape was inferred: only operators that make no more than they are given are computed.
            if op_name(node) in ("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "OneHot", "EyeLike", "Pad"):
                return True
            continue
        bytes_out += int(np.prod([d for d in shape if isinstance(d, int)])) * int(item_bytes(value.dtype))
    return bytes_out > max(LARGEST_FOLD, sum(t.nbytes for t in tensors))


def _constant(graph: ir.Graph, array: Array, old: ir.Value, fresh: Fresh) -> ir.Value:
    value = new_constant(fresh(f"{old.name}/folded"), array)
    graph.register_initializer(value)
    return value


def _replace(graph: ir.Graph, node: ir.Node, values: list[ir.Value]) -> None:
    for old, new in zip(node.outputs, values, strict=False):
        if new.shape is None and old.shape is not None:
            new.shape = old.shape
        if new.type is None:
            new.type = old.type
        old.replace_all_uses_with(new)
    graph.remove(node, safe=True)


def take_branch(graph: ir.Graph, node: ir.Node, fresh: Fresh) -> bool:
    """If(constant, a, b) = a or b, inlined; False where it stays."""
    condition = node.inputs[0]
    tensor = constant_tensor(condition) if condition is not None else None
    if tensor is None or tensor.size != 1:
        return False
    attribute = node.attributes.get("then_branch" if bool(tensor.numpy().reshape(-1)[0]) else "else_branch")
    if attribute is None or attribute.is_ref():
        return False
    branch = attribute.as_graph()
    inside = {v for n in branch for v in n.outputs}
    if any(v.is_graph_output() for v in node.outputs) and len(set(branch.outputs)) < len(branch.outputs):
        return False
    if any(v not in inside for v in branch.outputs):
        return False  # a branch that hands out an outer value or a constant as it is: rare, and kept
    nodes, results = list(branch), list(branch.outputs)
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        value.name = fresh(value.name or "constant")
        graph.register_initializer(value)
    branch.outputs.clear()
    branch.remove(nodes)
    for inner in nodes:
        inner.name = fresh(inner.name or inner.op_type)
        for value in inner.outputs:
            value.name = fresh(value.name or "value")
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():
            name = old.name
            for position, output in enumerate(graph.outputs):
                if output is old:
                    graph.outputs[position] = new
            old.name, new.name = f"{name}/replaced", name
            new.type, new.shape = old.type or new.type, old.shape if old.shape is not None else new.shape
        old.replace_all_uses_with(new)
    _release(node)
    graph.remove(node, safe=True)
    return True


def _release(holder: ir.Node) -> None:
    """Let go of what a node's bodies read, before the node is dropped: its uses would outlive it."""
    for body in bodies(holder):
        for inner in body:
            _release(inner)
            for position in range(len(inner.inputs)):
                inner.replace_input_with(position, None)


def remove_unused(graph: ir.Graph) -> None:
    """Drop nodes and initializers that nothing reads; inputs and outputs of the graph stay."""
    for node in reversed(list(graph)):
        if all(not v.uses() and not v.is_graph_output() for v in node.outputs):
            _release(node)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
