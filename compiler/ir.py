"""The IR: an `onnx_ir.Model` whose values have known shapes and dtypes. Its invariants and its text form.

Invariants between the pipeline's steps: nodes are topologically sorted, names of values are unique in the model,
constants are initializers (no `Constant` nodes), initializers are not graph inputs unless the owner asked to keep
them overridable, and every value has the shape and dtype that inference could find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import onnx_ir as ir

from .facts import Array, Constant, Dim, Fact
from .schema import NONDETERMINISTIC, full_name, schema_of
from .scratch import put_away

CAUSAL = "tamago.causal"  # in the `meta` of a value that `causal_masks.py` found to be a causal mask
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds: bodies of If, Loop, Scan."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found


def graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The graph and every body in it, innermost first."""
    for node in graph:
        for body in bodies(node):
            yield from graphs(body)
    yield graph


def captured(node: ir.Node) -> list[ir.Value]:
    """Values of outer scopes that the node's bodies read, each once, in order of first use."""
    found: dict[ir.Value, None] = {}
    for body in bodies(node):
        inner = set(body.inputs) | set(body.initializers.values()) | {v for n in body for v in n.outputs}
        used = [v for n in body for v in (*n.inputs, *captured(n)) if v is not None] + list(body.outputs)
        found.update((v, None) for v in used if v not in inner)
    return list(found)


def owners(graph: ir.Graph) -> dict[ir.Graph, ir.Node]:
    """For every body below this graph, at any depth, the node *of this graph* that it belongs to."""
    return {inner: node for node in graph for body in bodies(node) for inner in graphs(body)}


def op_name(node: ir.Node) -> str:
    """The operator with its domain, as rules and prices know it."""
    return full_name(node.domain, node.op_type)


def is_opaque(node: ir.Node) -> bool:
    """Whether nothing may be assumed of the node: unknown to ONNX, not repeatable, or holding bodies."""
    if bodies(node):
        return True
    if node.domain == "" and node.op_type in NONDETERMINISTIC:
        return True
    if any(a.is_ref() for a in node.attributes.values()):
        return True
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        return True
    return node.domain not in ("com.microsoft", "ai.tamago") and schema_of(op_name(node)) is None


def attribute_values(node: ir.Node) -> dict[str, Any]:
    """Stated attributes as Python values: numbers, strings, tuples, arrays."""
    return {name: _attribute_value(attribute) for name, attribute in sorted(node.attributes.items())}


def _attribute_value(attribute: ir.Attr) -> Any:
    value = attribute.value
    match attribute.type:
        case ir.AttributeType.INTS | ir.AttributeType.FLOATS | ir.AttributeType.STRINGS:
            return tuple(value)
        case ir.AttributeType.TENSOR:
            return value.numpy()
        case _:
            return value


def describe_attributes(node: ir.Node) -> str:
    """Attributes as text; equal texts mean equal attributes."""
    return "{" + ",".join(f"{k}={_text(v)}" for k, v in attribute_values(node).items()) + "}"


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{digest(value)}"
    return repr(value)


def digest(array: Array) -> str:
    """A name for an array's contents."""
    contents = np.ascontiguousarray(array)
    if contents.dtype == object:
        return blake2b(repr(contents.tolist()).encode(), digest_size=16).hexdigest()
    return blake2b(contents.view(np.uint8).data if contents.ndim else contents.tobytes(), digest_size=16).hexdigest()


def constant_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer that nobody can override from outside."""
    if value.const_value is None or value.is_graph_input() or not value.is_initializer():
        return None
    return value.const_value


def new_constant(name: str, array: Array) -> ir.Value:
    """A value with these contents, to be registered as an initializer; those of a large model are put away."""
    tensor = ir.tensor(put_away(np.asarray(array, order="C")), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def constant_array(value: ir.Value, largest: int) -> Array | None:
    """The contents of a constant of at most `largest` elements, None otherwise."""
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > largest or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def dims(value: ir.Value) -> tuple[Dim, ...] | None:
    """The value's dimensions: numbers, names, None."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def static_dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """The value's dimensions where all of them are numbers."""
    shape = None if value is None else dims(value)
    known = () if shape is None else tuple(d for d in shape if isinstance(d, int))
    return known if shape is not None and len(known) == len(shape) else None


def fact_of(value: ir.Value) -> Fact:
    """What the IR knows of a value, its constant contents included."""
    tensor = constant_tensor(value)
    dtype = value.dtype if value.type is None or isinstance(value.type, ir.TensorType) else None
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return Fact(None if dtype is None else int(dtype), dims(value), causal=bool(value.meta.get(CAUSAL)))
    shape = tuple(int(d) for d in tensor.shape.numpy())
    return Fact(int(tensor.dtype), shape, Constant([tensor.numpy], (value.name or "",)))


def unique_names(graph: ir.Graph) -> set[str]:
    """Every value and node name in use at any depth."""
    names: set[str] = set()
    for inner in graphs(graph):
        names.update(v.name for v in (*inner.inputs, *inner.initializers.values()) if v.name)
        for node in inner:
            names.update(v.name for v in node.outputs if v.name)
            if node.name:
                names.add(node.name)
    return names


def text(graph: ir.Graph) -> str:
    """The graph in one line per node, for messages and tests: `y: FLOAT[2,3] = Add(x, c) {attributes}`."""
    lines = [f"{name}: {_type(v)} = constant" for name, v in graph.initializers.items()]
    for node in graph:
        outputs = ", ".join(f"{v.name}: {_type(v)}" for v in node.outputs)
        inputs = ", ".join("_" if v is None else str(v.name) for v in node.inputs)
        attributes = describe_attributes(node) if node.attributes and not bodies(node) else ""
        lines.append(f"{outputs} = {op_name(node)}({inputs}) {attributes}".rstrip())
    return "\n".join(lines)


def _type(value: ir.Value) -> str:
    shape = dims(value)
    sizes = "?" if shape is None else ",".join("?" if d is None else str(d) for d in shape)
    return f"{value.dtype}[{sizes}]"


def metadata(rule: str, sources: Iterable[str]) -> Mapping[str, str]:
    """Where a new node comes from, as Netron shows it: the rule, and the model's nodes it stands for."""
    return {"tamago.rule": rule, "tamago.sources": " ".join(sources)[:1000]}


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all weights, those of bodies included."""
    return sum(t.nbytes for t in weights(model))


def weights(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every initializer, and the tensor of every Constant, at any depth."""
    for graph in graphs(model.graph):
        yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            value = node.attributes.get("value") if op_name(node) == "Constant" else None
            if value is not None and value.type == ir.AttributeType.TENSOR:
                yield value.as_tensor()


def with_distinct_names(model: ir.Model) -> ir.Model:
    """The model, or a copy in which no two values and no two nodes at any depth share a name: branches may."""
    if all(_distinct(names) for names in (_value_names(model.graph), _node_names(model.graph))):
        return model
    result = model.clone()
    taken = unique_names(result.graph)
    values, nodes = set[str](), set[str]()
    for graph in reversed(list(graphs(result.graph))):  # outer graphs keep theirs
        for seen, things in ((values, _values(graph)), (nodes, [n for n in graph if n.name])):
            for thing in things:
                _make_distinct(graph, thing, seen, taken)
    return result


def _make_distinct(graph: ir.Graph, thing: ir.Value | ir.Node, seen: set[str], taken: set[str]) -> None:
    name, count = thing.name or "", 0
    if name in seen:
        while f"{name}_{count}" in taken:
            count += 1
        _rename(graph, thing, f"{name}_{count}")
    seen.add(thing.name or "")
    taken.add(thing.name or "")


def _distinct(names: Sequence[str]) -> bool:
    return len(names) == len(set(names))


def _value_names(graph: ir.Graph) -> list[str]:
    return [v.name or "" for g in graphs(graph) for v in _values(g)]


def _node_names(graph: ir.Graph) -> list[str]:
    return [n.name for g in graphs(graph) for n in g if n.name]


def _values(graph: ir.Graph) -> list[ir.Value]:
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    return [*inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs if v.name)]


def _rename(graph: ir.Graph, thing: ir.Value | ir.Node, name: str) -> None:
    if isinstance(thing, ir.Value) and graph.initializers.get(thing.name or "") is thing:
        del graph.initializers[thing.name or ""]
        thing.name = name
        graph.register_initializer(thing)
        return
    thing.name = name


def import_domains(model: ir.Model) -> None:
    """Import every domain that a node is of: new nodes may be of one that the model did not have."""
    for node in model.graph.all_nodes():
        if node.domain and node.domain not in model.opset_imports:
            model.opset_imports[node.domain] = 1
