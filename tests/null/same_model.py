"""What a model file says, as plain values: two files that mean the same compare equal, whatever their spelling."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Plain = dict[str, Any]


def plain(model: onnx.ModelProto) -> Plain:
    """Everything in the model but the order of maps and which field of a tensor holds its numbers."""
    return {
        "ir_version": model.ir_version,
        "producer": (model.producer_name, model.producer_version, model.domain, model.model_version, model.doc_string),
        "opsets": _opsets(model.opset_import),
        "metadata": _entries(model.metadata_props),
        "graph": _graph(model.graph),
        "functions": {(f.domain, f.name, f.overload): _function(f) for f in model.functions},
        "training": [_bytes(info) for info in model.training_info],
        "configuration": [_bytes(entry) for entry in model.configuration],
    }


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """The second model says all that the first one says; it may say more about the types of its values."""
    expected, found = plain(before), plain(after)
    _forgive_more_value_info(expected["graph"], found["graph"])
    for identity, function in expected["functions"].items():
        _forgive_more_value_info(function, found["functions"][identity])
    assert expected == found


def _forgive_more_value_info(expected: Plain, found: Plain) -> None:
    named = {name for node in expected["nodes"] for name in node["outputs"]} | set(expected.get("initializers", ()))
    known = expected["value_info"]
    expected["value_info"] = {name: info for name, info in known.items() if name in named}
    found["value_info"] = {name: info for name, info in found["value_info"].items() if name in expected["value_info"]}
    for body, same in zip(_bodies(expected), _bodies(found), strict=True):
        _forgive_more_value_info(body, same)


def _bodies(part: Plain) -> list[Plain]:
    """The graphs in the attributes of a graph or function."""
    holders: list[Plain] = [part.get("defaults", {}), *(node["attributes"] for node in part["nodes"])]
    values = [attribute[-1] for holder in holders for attribute in holder.values()]
    return [
        body for value in values for body in (value if isinstance(value, list) else [value]) if isinstance(body, dict)
    ]


def _graph(graph: onnx.GraphProto) -> Plain:
    outputs = {info.name for info in graph.output} | {info.name for info in graph.input}
    return {
        "name": (graph.name, graph.doc_string),
        "inputs": [_info(info) for info in graph.input],
        "outputs": [_info(info) for info in graph.output],
        "value_info": {info.name: _info(info) for info in graph.value_info if info.name not in outputs},
        "initializers": {tensor.name: _tensor(tensor) for tensor in graph.initializer},
        "sparse": {sparse.values.name: _sparse(sparse) for sparse in graph.sparse_initializer},
        "quantization": {
            a.tensor_name: _entries(a.quant_parameter_tensor_names) for a in graph.quantization_annotation
        },
        "nodes": [_node(node) for node in graph.node],
        "metadata": _entries(graph.metadata_props),
    }


def _function(function: onnx.FunctionProto) -> Plain:
    return {
        "doc": function.doc_string,
        "inputs": list(function.input),
        "outputs": list(function.output),
        "attributes": sorted(function.attribute),
        "defaults": {attribute.name: _attribute(attribute) for attribute in function.attribute_proto},
        "opsets": _opsets(function.opset_import),
        "value_info": {info.name: _info(info) for info in function.value_info},
        "nodes": [_node(node) for node in function.node],
        "metadata": _entries(function.metadata_props),
    }


def _node(node: onnx.NodeProto) -> Plain:
    return {
        "operator": ("" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload),
        "name": (node.name, node.doc_string),
        "inputs": list(node.input),
        "outputs": list(node.output),
        "attributes": {attribute.name: _attribute(attribute) for attribute in node.attribute},
        "metadata": _entries(node.metadata_props),
        "devices": [_bytes(entry) for entry in node.device_configurations],
    }


def _attribute(attribute: onnx.AttributeProto) -> tuple[Any, ...]:
    head = (int(attribute.type), attribute.ref_attr_name, attribute.doc_string)
    kinds = onnx.AttributeProto
    if attribute.ref_attr_name:
        return (*head, None)
    match attribute.type:
        case kinds.GRAPH:
            return (*head, _graph(attribute.g))
        case kinds.GRAPHS:
            return (*head, [_graph(graph) for graph in attribute.graphs])
        case kinds.TENSOR:
            return (*head, _tensor(attribute.t))
        case kinds.TENSORS:
            return (*head, [_tensor(tensor) for tensor in attribute.tensors])
        case kinds.SPARSE_TENSOR:
            return (*head, _sparse(attribute.sparse_tensor))
        case kinds.FLOAT | kinds.FLOATS:
            numbers = [attribute.f] if attribute.type == kinds.FLOAT else attribute.floats
            return (*head, np.array(numbers, dtype=np.float32).tobytes())
        case _:
            return (*head, _bytes(attribute))


def _tensor(tensor: onnx.TensorProto) -> tuple[Any, ...]:
    head = (tensor.name, tensor.doc_string, int(tensor.data_type), tuple(tensor.dims), _entries(tensor.metadata_props))
    if tensor.data_type == onnx.TensorProto.STRING:
        return (*head, tuple(tensor.string_data))
    return (*head, numpy_helper.to_array(tensor).tobytes())


def _sparse(sparse: onnx.SparseTensorProto) -> tuple[Any, ...]:
    return (_tensor(sparse.values), _tensor(sparse.indices), tuple(sparse.dims))


def _info(info: onnx.ValueInfoProto) -> tuple[Any, ...]:
    return (info.name, info.doc_string, _entries(info.metadata_props), _bytes(info.type))


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in imports}


def _entries(entries: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}


def _bytes(message: Any) -> bytes:
    return message.SerializeToString(deterministic=True)
