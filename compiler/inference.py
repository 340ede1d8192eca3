"""Fill the shapes and dtypes of every value of a model, in place.

One walk in topological order, bodies of If, Loop and Scan included, that asks `shapes/` for each node and follows the
contents of shape computations on the way, so that names of dimensions survive `Shape → Gather → Concat → Reshape`.
No weight is read and nothing is serialised: a model of any size costs the same.

What a file declares wins where it says more. Where it declares a size or a rank that inference contradicts, somebody
changed the model or freed a dimension of its inputs, and left the rest as it was: then no declared size is believed, as
ONNX Runtime does when it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import onnx
import onnx_ir as ir

from .carried import expressible
from .facts import Contradiction, Dim, Shape
from .ir import attribute_values, bodies, constant_array, dims, graphs, op_name
from .opset import TARGET
from .shape_data import shape_data
from .shapes.call import UNKNOWN, Call, Known, Number, Operand, unify
from .shapes.node import LARGEST, READS, has_rule, infer_call, infer_node, numbers_of
from .shapes.onnx_rules import infer_types, known_of, make_node, schema_at

__all__ = ["infer", "infer_node"]

_NO_NAMES = frozenset({"", "?", "*", "-1", "None", "none", "unknown", "dynamic", "undefined"})
_CARRIED_ROUNDS = 3  # how often a loop's body is read again with less said of what it carries


def infer(model: ir.Model) -> None:
    """Fill what can be known of every value.

    Args:
        model: topologically sorted, of any opset. Changed in place: types and shapes only.
    """
    interface = set(model.graph.outputs) | set(model.graph.inputs)
    walk = _Walk(model.opset_imports, interface)
    walk.graph(model.graph)
    if walk.stale:
        _forget_sizes(model)
        _Walk(model.opset_imports, interface).graph(model.graph)


def _forget_sizes(model: ir.Model) -> None:
    """Drop every size that nodes' outputs declare: they are from before somebody freed a dimension of the inputs."""
    for graph in graphs(model.graph):
        for value in (v for node in graph for v in node.outputs):
            shape = dims(value)
            if shape is not None:
                value.shape = ir.Shape([d if isinstance(d, str) else None for d in shape])


class _Walk:
    """State of one pass: entries of small vectors, and what a loop's trial has changed."""

    def __init__(self, versions: Mapping[str, int], interface: set[ir.Value]) -> None:
        self.versions, self.interface = versions, interface
        self.version = versions.get("", TARGET)
        self.stale = False  # whether a size or a rank is declared where another was inferred
        self.known: dict[ir.Value, tuple[Dim, ...]] = {}
        self.contents: dict[ir.Value, tuple[Number, ...]] = {}
        self.journal: list[tuple[ir.Value, Any, ir.Shape | None]] | None = None

    def graph(self, graph: ir.Graph) -> None:
        """Every node of a graph in order."""
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                self.learn(value, (int(tensor.dtype), tuple(int(d) for d in tensor.shape.numpy())))
        for node in graph:
            try:
                self.node(node)
            except Contradiction:
                continue  # the file contradicts itself or is more liberal than ONNX: what it declares stands

    def node(self, node: ir.Node) -> None:
        """One node's outputs."""
        op = op_name(node)
        match op:
            case "If":
                self.branches(node)
            case "Loop" if self.version >= 8:
                self.loop(node)
            case "Scan" if self.version >= 9:
                self.scan(node)
            case "Constant":
                self.constant(node)
                return
            case _:
                for body in bodies(node):
                    self.graph(body)
                for value, found in zip(node.outputs, self.outputs(node, op), strict=False):
                    self.learn(value, found)
        data = shape_data(node, self.known)
        for value in node.outputs[:1]:
            self.known.pop(value, None)
            if data is not None:
                self.known[value] = data

    def outputs(self, node: ir.Node, op: str) -> Sequence[Known]:
        """What the operator's own rule, or onnx, says of a node's outputs."""
        if any(a.is_ref() for a in node.attributes.values()) or bodies(node):
            return ()
        if not has_rule(op) and not _all_tensors(node.inputs):
            return self.general(node, op)
        reads = READS.get(op, ())
        operands = tuple(None if v is None else self.operand(v, i in reads) for i, v in enumerate(node.inputs))
        version = self.versions.get(node.domain, self.version)
        found = infer_call(op, attribute_values(node), operands, version, len(node.outputs))
        if found[0] == UNKNOWN and not has_rule(op):
            return self.general(node, op)
        return found

    def operand(self, value: ir.Value, wanted: bool) -> Operand:
        """A value as the rules see it, with its entries where they decide a shape."""
        dtype, shape = _known(value)
        return Operand(dtype, shape, self.entries(value) if wanted else None)

    def entries(self, value: ir.Value) -> tuple[Number, ...] | None:
        """Entries of a small vector: followed, or of a constant."""
        found = self.known.get(value, self.contents.get(value))
        if found is not None:
            return found
        array = constant_array(value, LARGEST)
        return None if array is None else numbers_of(array)

    def constant(self, node: ir.Node) -> None:
        """A `Constant` node: type, shape, and the entries of a small vector."""
        value, attribute = node.outputs[0], next(iter(node.attributes.values()), None)
        if attribute is None or attribute.is_ref():
            return
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.value  # `as_tensor` would check a protocol, at ten times the price of all else
            self.learn(value, (int(tensor.dtype), tuple(int(d) for d in tensor.shape.numpy())))
            if tensor.size <= LARGEST and tensor.dtype != ir.DataType.STRING:
                self.remember(value, numbers_of(tensor.numpy()))
            return
        if attribute.type == ir.AttributeType.SPARSE_TENSOR:
            return
        self.learn(value, infer_call("Constant", attribute_values(node), (), self.version, 1)[0])
        if attribute.type in (ir.AttributeType.INT, ir.AttributeType.FLOAT):
            self.remember(value, (attribute.value,))
        elif attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
            self.remember(value, tuple(attribute.value))

    def remember(self, value: ir.Value, entries: tuple[Number, ...] | None) -> None:
        """Keep a constant's entries for those who read them."""
        if entries is None or len(entries) > LARGEST:
            return
        self.contents[value] = entries
        integers = tuple(e for e in entries if isinstance(e, int))
        if len(integers) == len(entries):
            self.known[value] = integers

    def general(self, node: ir.Node, op: str) -> Sequence[Known]:
        """Types that are no tensors (sequences, optionals) as onnx infers them, written into the values."""
        version = self.versions.get(node.domain, self.version)
        schema = schema_at(op, version)
        if schema is None or any(v is not None and v.type is None for v in node.inputs):
            return ()
        names = ["" if v is None else f"x{i}" for i, v in enumerate(node.inputs)]
        types = {n: _type_proto(v) for n, v in zip(names, node.inputs, strict=True) if v is not None}
        results = [f"y{i}" if v.name else "" for i, v in enumerate(node.outputs)]
        proto = make_node(op, names, results, {})
        proto.attribute.extend(ir.to_proto(a) for a in node.attributes.values())
        found = infer_types(schema, proto, types, {}, Call(op, {}, (), len(results), version))
        for value, name in zip(node.outputs, results, strict=True):
            if name in found and value.type is None:
                self.note(value)
                value.type = _ir_type(found[name])
        return [known_of(found.get(name)) for name in results]

    # --- bodies -----------------------------------------------------------------------------------------------

    def branches(self, node: ir.Node) -> None:
        """If: what both branches agree on."""
        graphs = bodies(node)
        for body in graphs:
            self.graph(body)
        for index, value in enumerate(node.outputs):
            results = [body.outputs[index] for body in graphs if index < len(body.outputs)]
            if len(results) == 2 and _all_tensors(results):
                self.learn(value, _either(_known(results[0]), _known(results[1])))
            elif len(results) == 2 and value.type is None:
                self.note(value)
                value.type = results[0].type

    def loop(self, node: ir.Node) -> None:
        """Loop: what it carries keeps a shape if the body, given that shape, returns it."""
        body = node.attributes["body"].as_graph()
        if len(body.inputs) >= 2:
            self.learn(body.inputs[0], (onnx.TensorProto.INT64, ()))
            self.learn(body.inputs[1], (onnx.TensorProto.BOOL, ()))
        initial = node.inputs[2:]
        carried = list(zip(initial, body.inputs[2:], body.outputs[1:], strict=False))
        self.carry(body, [(first, inner, outer) for first, inner, outer in carried])
        results = body.outputs[1:]
        for index, value in enumerate(node.outputs):
            if index >= len(results):
                continue
            if index < len(initial):
                self.carried_out(value, initial[index], results[index])
            elif _all_tensors([results[index]]):
                dtype, shape = _known(results[index])
                self.learn(value, (dtype, None if shape is None else (None, *shape)))

    def carried_out(self, value: ir.Value, first: ir.Value | None, last: ir.Value) -> None:
        """What a loop hands out: what came in, if it never ran, or what the body returned."""
        if first is None or not _all_tensors([first, last]):
            if value.type is None and first is not None:
                self.note(value)
                value.type = first.type
            return
        self.learn(value, _either(_known(first), _known(last)))

    def carry(self, body: ir.Graph, carried: Sequence[tuple[ir.Value | None, ir.Value, ir.Value]]) -> None:
        """Read a loop's body, with as much said of the carried values as the body upholds."""
        believed = [UNKNOWN if first is None or not _all_tensors([first]) else _known(first) for first, _, _ in carried]
        for first, inner, _ in carried:
            if inner.type is None and first is not None and first.type is not None:
                inner.type = first.type  # the element type of what is carried never changes
        for left in reversed(range(_CARRIED_ROUNDS)):
            outer, self.journal = self.journal, []
            for (_, inner, _), known in zip(carried, believed, strict=True):
                self.learn(inner, known)
            self.graph(body)
            upheld = [_weaker(known, _known(result)) for known, (_, _, result) in zip(believed, carried, strict=True)]
            if upheld == believed or not left:
                self.journal = None if outer is None else [*outer, *self.journal]
                if upheld != believed:
                    self.undo_into(outer)
                    self.graph(body)
                return
            self.undo_into(outer)
            believed = upheld if left > 1 else [(dtype, None) for dtype, _ in upheld]

    def undo_into(self, outer: list[tuple[ir.Value, Any, ir.Shape | None]] | None) -> None:
        """Take back what a trial wrote."""
        for value, kind, shape in reversed(self.journal or []):
            value.type, value.shape = kind, shape
        self.journal = outer

    def scan(self, node: ir.Node) -> None:
        """Scan: states keep their shapes (the specification says so), inputs lose the scanned axis."""
        stated = attribute_values(node)
        body, count = node.attributes["body"].as_graph(), int(stated["num_scan_inputs"])
        states = len(node.inputs) - count
        axes = stated.get("scan_input_axes") or (0,) * count
        length: Dim = None
        for index, (value, inner) in enumerate(zip(node.inputs, body.inputs, strict=False)):
            if value is None or not _all_tensors([value]):
                continue
            dtype, shape = _known(value)
            if index >= states and shape:
                axis = axes[index - states] % len(shape)
                length = unify(length, shape[axis])
                shape = (*shape[:axis], *shape[axis + 1 :])
            self.learn(inner, (dtype, shape))
        self.graph(body)
        out_axes = stated.get("scan_output_axes") or (0,) * (len(node.outputs) - states)
        for index, (value, result) in enumerate(zip(node.outputs, body.outputs, strict=False)):
            dtype, shape = _known(result)
            if index >= states and shape is not None:
                axis = out_axes[index - states] % (len(shape) + 1)
                shape = (*shape[:axis], length, *shape[axis:])
            self.learn(value, (dtype, shape))

    # --- writing ----------------------------------------------------------------------------------------------

    def learn(self, value: ir.Value, found: Known) -> None:
        """Write what was found where the value says less."""
        dtype, shape = found
        if value.type is None and dtype is not None:
            self.note(value)
            value.type = ir.TensorType(ir.DataType(dtype))
        if shape is None or not isinstance(value.type, (ir.TensorType, type(None))):
            return
        merged = self.merge(value, shape)
        if merged is not None:
            self.note(value)
            value.shape = ir.Shape(merged)

    def merge(self, value: ir.Value, shape: Shape) -> Shape | None:
        """The value's new dimensions, None where nothing changes."""
        declared = _known(value)[1]
        if declared is None:
            return shape
        if len(declared) != len(shape):
            self.stale = True
            return shape
        merged = tuple(self.choose(value, a, b) for a, b in zip(declared, shape, strict=True))
        return merged if merged != declared else None

    def choose(self, value: ir.Value, declared: Dim, found: Dim) -> Dim:
        """A number says more than a name; the names of the model's own inputs and outputs are part of its interface."""
        if isinstance(declared, int) and found is not None and found != declared:
            self.stale = True
            return found
        if declared is None or (isinstance(declared, str) and isinstance(found, int) and value not in self.interface):
            return found
        return declared

    def note(self, value: ir.Value) -> None:
        """Remember what a value said before a trial."""
        if self.journal is not None:
            self.journal.append((value, value.type, value.shape))


def _known(value: ir.Value) -> Known:
    dtype = value.dtype if isinstance(value.type, ir.TensorType) else None
    shape = dims(value)
    return None if dtype is None else int(dtype), None if shape is None else tuple(map(_meant, shape))


def _meant(dim: Dim) -> Dim:
    """Some exporters write -1, or one and the same word, for every dimension they do not know."""
    return None if dim in _NO_NAMES or (isinstance(dim, int) and dim < 0) else dim


def _either(a: Known, b: Known) -> Known:
    """What is true of a value that is one of two."""
    dtype = a[0] if a[0] == b[0] else None
    if a[1] is None or b[1] is None or len(a[1]) != len(b[1]):
        return dtype, None
    return dtype, tuple(p if p == q else None for p, q in zip(a[1], b[1], strict=True))


def _weaker(believed: Known, returned: Known) -> Known:
    """What of a belief a loop's body upholds."""
    return (believed[0], _either(believed, returned)[1])


def _all_tensors(values: Iterable[ir.Value | None]) -> TypeGuard[Any]:
    return all(v is None or v.type is None or isinstance(v.type, ir.TensorType) for v in values)


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    return ir.to_proto(value).type


def _ir_type(found: onnx.TypeProto) -> ir.TypeProtocol | None:
    """None for a map, such as ZipMap hands out."""
    return ir.serde.deserialize_type_proto_for_type(found) if expressible(found) else None
