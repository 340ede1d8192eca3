"""Spellings that onnx's checker or ONNX Runtime take and `onnx_ir` does not, brought into the usual one.

Nothing here changes what a model computes: the choice between two readings is the one that ONNX Runtime makes.
"""

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from .external_data import EXTERNAL_KEYS
from .model_checks import attribute_graphs, attribute_lists, attribute_tensors
from .tensor_data import DATA_TYPES, TYPED_FIELDS, typed_field

_Attribute = onnx.AttributeProto
_UNTYPED = {  # files before IR version 2 do not say the type; the field that is set does
    "f": _Attribute.FLOAT,
    "i": _Attribute.INT,
    "s": _Attribute.STRING,
    "t": _Attribute.TENSOR,
    "g": _Attribute.GRAPH,
    "floats": _Attribute.FLOATS,
    "ints": _Attribute.INTS,
    "strings": _Attribute.STRINGS,
    "tensors": _Attribute.TENSORS,
    "graphs": _Attribute.GRAPHS,
}


def mend(model: onnx.ModelProto) -> None:
    """Brings the model, in place, into the usual spelling; runs before the checks and believes nothing."""
    for imported in (*model.opset_import, *(entry for f in model.functions for entry in f.opset_import)):
        if imported.domain == "ai.onnx":  # the long name of the default domain
            imported.domain = ""
    if not model.opset_import and model.ir_version < 3:
        model.opset_import.add(domain="", version=1)
    for graph in graphs_of(model):
        _mend_graph(graph)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Every graph and function of a model, each before the graphs inside it."""
    yield from _graph_and_bodies(model.graph)
    for function in model.functions:
        yield from _graph_and_bodies(function)


def _graph_and_bodies(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    yield graph
    for attributes in attribute_lists(graph):
        for attribute in attributes:
            for body in attribute_graphs(attribute):
                yield from _graph_and_bodies(body)


def tensors_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of one graph or function, without those of graphs inside it."""
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attributes in attribute_lists(graph):
        for attribute in attributes:
            yield from attribute_tensors(attribute)


def _mend_graph(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    for attributes in attribute_lists(graph):
        for attribute in attributes:
            if attribute.type == _Attribute.UNDEFINED and not attribute.ref_attr_name:
                _infer_type(attribute)
    for node in graph.node:
        if node.device_configurations:
            _drop_unnamed_devices(node)
    for tensor in tensors_of(graph):
        _keep_one_content(tensor)
    for info in graph.value_info:
        _mend_dimensions(info.type)
    if isinstance(graph, onnx.FunctionProto):
        return
    for info in (*graph.input, *graph.output):
        _mend_dimensions(info.type)
    _keep_last_constants(graph)
    _complete_outputs(graph)


def _infer_type(attribute: onnx.AttributeProto) -> None:
    for field, _ in attribute.ListFields():
        if field.name in _UNTYPED:
            attribute.type = _UNTYPED[field.name]
            return


def _drop_unnamed_devices(node: onnx.NodeProto) -> None:
    """A placement that names no configuration or no tensor places nothing."""
    for index in reversed(range(len(node.device_configurations))):
        placement = node.device_configurations[index]
        for position in reversed(range(len(placement.sharding_spec))):
            if not placement.sharding_spec[position].tensor_name:
                del placement.sharding_spec[position]
        if not placement.configuration_id:
            del node.device_configurations[index]


def _keep_one_content(tensor: onnx.TensorProto) -> None:
    """Of several contents, the one that the element type calls for; of keys of external data, those that ONNX has."""
    for index in reversed(range(len(tensor.external_data))):
        if tensor.external_data[index].key not in EXTERNAL_KEYS:
            del tensor.external_data[index]
    if tensor.data_type not in DATA_TYPES:
        return
    own = typed_field(ir.DataType(tensor.data_type))
    for field in TYPED_FIELDS:
        if field != own and getattr(tensor, field):
            tensor.ClearField(field)


def _mend_dimensions(kind: onnx.TypeProto) -> None:
    """A negative or unnamed dimension is an unknown one, as ONNX Runtime reads it."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
    if not kind.HasField("tensor_type"):
        return
    for dimension in kind.tensor_type.shape.dim if kind.tensor_type.HasField("shape") else ():
        if dimension.HasField("dim_value") and dimension.dim_value < 0:
            dimension.ClearField("dim_value")
        if dimension.HasField("dim_param") and not dimension.dim_param:
            dimension.ClearField("dim_param")


def _keep_last_constants(graph: onnx.GraphProto) -> None:
    """Of constants of one name the last counts, `Constant` nodes after initializers; one without a name is useless."""
    seen: set[str] = set()
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
            continue
        if node.output[0] in seen:
            del graph.node[index]
        else:
            seen.add(node.output[0])
    seen.add("")
    for index in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[index].values.name in seen:
            del graph.sparse_initializer[index]
        else:
            seen.add(graph.sparse_initializer[index].values.name)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in seen:
            del graph.initializer[index]
        else:
            seen.add(graph.initializer[index].name)


def _complete_outputs(graph: onnx.GraphProto) -> None:
    """An output that says less about its type than the value it hands on takes the value's type."""
    if all(info.type.tensor_type.HasField("shape") for info in graph.output):
        return
    known = {info.name: info.type for info in (*graph.value_info, *graph.input)}
    for info in graph.output:
        kind = info.type.WhichOneof("value")
        if info.name not in known or kind not in (None, known[info.name].WhichOneof("value")):
            continue
        if kind is None or (kind == "tensor_type" and not info.type.tensor_type.HasField("shape")):
            info.type.CopyFrom(known[info.name])
