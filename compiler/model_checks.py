"""What no runtime could run, refused with the place and the reason; what onnx's checker or ONNX Runtime takes, passes.

Works on the protobuf message, before any object of the IR exists: names and scopes, types, attributes, shapes.
The bytes of tensors are checked where they are read (tensor_data.py, external_data.py).
"""

from collections.abc import Iterable, Iterator, MutableSequence
from dataclasses import dataclass, field

import onnx

from .errors import TamagoError
from .external_data import region_of
from .tensor_data import data_type, element_count, shown, wrong

_EXPORT_AGAIN = "export the model again, or check it with `onnx.checker.check_model`"
_Attribute = onnx.AttributeProto


@dataclass
class Scope:
    """The names of one graph: all it declares, and those that are made by the nodes read so far."""

    declared: set[str]
    made: set[str] = field(default_factory=set[str])


def check_model(model: onnx.ModelProto) -> bool:
    """Refuses a model that is not one.

    Returns:
        Whether every graph's nodes stand in an order in which they can run.

    Raises:
        TamagoError: M010 to M019; M021, M023, M024 for external data.
    """
    _check_header(model)
    in_order = _check_graph(model.graph, [], "the graph")
    identities: set[tuple[str, str, str]] = set()
    for function in model.functions:
        identity = (function.domain, function.name, function.overload)
        if identity in identities:
            raise _invalid("M013", "two functions have the same name", f"function {shown(function.name)}")
        identities.add(identity)
        in_order = _check_function(function) and in_order
    return in_order


def attribute_lists(graph: onnx.GraphProto | onnx.FunctionProto) -> list[MutableSequence[onnx.AttributeProto]]:
    """The attributes of each node; before them, of a function, the defaults of its own."""
    own = [graph.attribute_proto] if isinstance(graph, onnx.FunctionProto) else []
    return [*own, *(node.attribute for node in graph.node)]


def attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    """The tensors in an attribute, those of its sparse tensors among them; not those of its graphs."""
    if attribute.ref_attr_name:
        return
    if attribute.type == _Attribute.TENSOR:
        yield attribute.t
    elif attribute.type == _Attribute.TENSORS:
        yield from attribute.tensors
    elif attribute.type in (_Attribute.SPARSE_TENSOR, _Attribute.SPARSE_TENSORS):
        for sparse in sparse_tensors(attribute):
            yield from (sparse.values, sparse.indices)


def sparse_tensors(attribute: onnx.AttributeProto) -> Iterable[onnx.SparseTensorProto]:
    """The sparse tensors in an attribute."""
    return [attribute.sparse_tensor] if attribute.type == _Attribute.SPARSE_TENSOR else attribute.sparse_tensors


def attribute_graphs(attribute: onnx.AttributeProto) -> Iterable[onnx.GraphProto]:
    """The graphs in an attribute."""
    if attribute.ref_attr_name:
        return ()
    if attribute.type == _Attribute.GRAPH:
        return [attribute.g]
    return attribute.graphs if attribute.type == _Attribute.GRAPHS else ()


def _check_header(model: onnx.ModelProto) -> None:
    if not model.HasField("graph"):
        raise _invalid("M010", "the file holds no graph", "the model")
    if model.ir_version > onnx.IR_VERSION:
        why = f"its IR version is {model.ir_version}, this installation knows up to {onnx.IR_VERSION}"
        todo = "`pip install -U onnx onnx-ir onnxruntime`, or export it for an older ONNX"
        raise TamagoError("M012", "the model was made by a newer ONNX", why=why, todo=todo)
    if model.ir_version < 1:
        raise _invalid("M011", "the model does not say its IR version", "the model")
    if not model.opset_import and model.ir_version >= 3:  # before IR 3 there was one opset only
        raise _invalid("M011", "the model does not say which operator set it uses", "opset_import is empty")


def _check_graph(graph: onnx.GraphProto, outer: list[Scope], where: str) -> bool:
    inputs = [info.name for info in graph.input if info.name]
    for info in graph.input:
        _check_type(info, where)
        if not outer and not info.type.WhichOneof("value"):
            raise _invalid("M019", "an input has no type", f"input {shown(info.name)}")
    for info in (*graph.output, *graph.value_info):
        _check_type(info, where)
    constants = {_check_tensor(tensor) for tensor in graph.initializer}
    constants |= {_check_sparse(sparse) for sparse in graph.sparse_initializer}
    outputs = [name for node in graph.node for name in node.output if name]
    _unique(inputs, set(), where)
    _unique(outputs, constants.union(inputs), where)
    scope = Scope(declared=constants.union(inputs, outputs), made=constants.union(inputs))
    in_order = _check_nodes(graph.node, [*outer, scope], where)
    for info in graph.output:
        _check_output(info.name, scope, outer, where)
    return in_order


def _check_function(function: onnx.FunctionProto) -> bool:
    where = f"function {shown(function.name)}"
    inputs = list(function.input)
    outputs = [name for node in function.node for name in node.output if name]
    _unique(inputs, set(), where)
    _unique(outputs, set(inputs), where)
    for info in function.value_info:
        _check_type(info, where)
    for attribute in function.attribute_proto:
        _check_attribute(attribute, [], where)
    scope = Scope(declared={*inputs, *outputs}, made=set(inputs))
    in_order = _check_nodes(function.node, [scope], where)
    for name in function.output:
        _check_output(name, scope, [], where)
    return in_order


def _check_nodes(nodes: Iterable[onnx.NodeProto], scopes: list[Scope], where: str) -> bool:
    in_order = True
    for node in nodes:
        place = f"node {shown(node.name)} ({shown(node.op_type)}) in {where}"
        for name in node.input:
            in_order = (not name or _check_use(name, scopes, place)) and in_order
        names = [attribute.name for attribute in node.attribute]
        if len(set(names)) != len(names):
            raise _invalid("M019", "an attribute appears twice", place)
        for attribute in node.attribute:
            in_order = _check_attribute(attribute, scopes, place) and in_order
        scopes[-1].made.update(node.output)
    return in_order


def _check_use(name: str, scopes: list[Scope], where: str) -> bool:
    for scope in reversed(scopes):
        if name in scope.made:
            return True
        if name in scope.declared:
            return False
    raise _invalid("M014", f"the value {shown(name)} is used, but nothing makes it", where)


def _check_output(name: str, scope: Scope, outer: list[Scope], where: str) -> None:
    if name in scope.declared:
        return
    why = "no node, input or initializer of the graph has that name"
    if any(name in around.declared for around in outer):
        why = "it belongs to the graph around; ONNX wants an Identity node that hands it on"
    raise _invalid("M015", f"nothing makes the output {shown(name)}", where, why)


def _check_attribute(attribute: onnx.AttributeProto, scopes: list[Scope], where: str) -> bool:
    name = attribute.name
    if attribute.type == _Attribute.UNDEFINED and not attribute.ref_attr_name:
        raise _invalid("M019", f"the attribute {shown(name)} has no type and no value", where)
    if attribute.ref_attr_name:
        return True
    for tensor in attribute_tensors(attribute):
        _check_tensor(tensor)
    if attribute.type in (_Attribute.SPARSE_TENSOR, _Attribute.SPARSE_TENSORS):
        for sparse in sparse_tensors(attribute):
            _check_sparse(sparse)
    in_order = True
    for graph in attribute_graphs(attribute):
        in_order = _check_graph(graph, scopes, f"{shown(name)} of {where}") and in_order
    return in_order


def _check_tensor(tensor: onnx.TensorProto) -> str:
    name = tensor.name
    data_type(tensor.data_type, f"tensor {shown(name)}")
    element_count(tensor.dims, name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        region_of(tensor)
    return name


def _check_sparse(sparse: onnx.SparseTensorProto) -> str:
    name = _check_tensor(sparse.values)
    element_count(sparse.dims, name)
    _check_tensor(sparse.indices)
    if sparse.indices.data_type != onnx.TensorProto.INT64 or len(sparse.indices.dims) not in (1, 2):
        raise wrong(name, "the indices of a sparse tensor are not a list or a matrix of int64")
    return name


def _check_type(info: onnx.ValueInfoProto, where: str) -> None:
    kind = info.type
    place = f"{shown(info.name)} in {where}"
    while True:
        match kind.WhichOneof("value"):
            case "tensor_type":
                element = kind.tensor_type
            case "sparse_tensor_type":
                element = kind.sparse_tensor_type
            case "sequence_type":
                kind = kind.sequence_type.elem_type
                continue
            case "optional_type":
                kind = kind.optional_type.elem_type
                continue
            case _:
                return
        if element.HasField("elem_type") and element.elem_type:
            data_type(element.elem_type, place)
        return


def _unique(names: list[str], taken: set[str], where: str) -> None:
    seen = set(taken)
    for name in names:
        if name in seen:
            why = "every value may be made only once (single static assignment)"
            raise _invalid("M013", f"two values are called {shown(name)}", where, why)
        seen.add(name)


def _invalid(code: str, what: str, where: str, why: str = "") -> TamagoError:
    return TamagoError(code, what, where=where, why=why, todo=_EXPORT_AGAIN)
