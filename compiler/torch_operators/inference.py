"""Type and rank of a node's outputs, where inference over the whole model stopped short.

ONNX's own inference ends at the first operator outside its schemas; this one goes on from what the graph builder knows
of the inputs, node by node.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from .dtypes import ONNX_TYPES
from .values import Value

_FAILURES = (
    onnx.defs.SchemaError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    KeyError,
    RuntimeError,
)
# operators whose rank is the length of an input that lists sizes
_RANK_FROM = {"Reshape": 1, "ConstantOfShape": 0}
# operators whose rank is that of an input even if the other inputs are unknown, and those whose rank is always the same
_RANK_LIKE = {"Conv": 1, "ConvTranspose": 1, "DFT": 0, "LayerNormalization": 0, "Softmax": 0}
_RANK = {"STFT": 4, "LSTM": 4, "GRU": 4, "RNN": 4}


def complete(node: ir.Node, version: int, values: Sequence[Value | None], like: int | None) -> None:
    """Write type and shape of the outputs into the IR, where they are missing and can be told.

    Args:
        node: the node, of a model that is ours to change.
        version: opset version of its domain.
        values: what is known of its inputs.
        like: the input whose type and rank the first output has, for operators without a schema.
    """
    if all(output.type is not None and output.shape is not None for output in node.outputs):
        return
    if like is not None:
        _copy(values[like], node.outputs[0])
    elif node.domain in ("", "ai.onnx"):
        _infer(node, version, values)
    rank = _rank(node, values)
    if node.outputs[0].shape is None and rank is not None:
        node.outputs[0].shape = ir.Shape([None] * rank)


def _rank(node: ir.Node, values: Sequence[Value | None]) -> int | None:
    """Rank of the first output, for operators that tell it without all shapes."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Transpose" and "perm" in node.attributes:
        return len(node.attributes["perm"].as_ints())
    source = _at(values, _RANK_LIKE.get(node.op_type))
    if source is not None:
        return source.rank
    sizes = _at(values, _RANK_FROM.get(node.op_type))
    integers = None if sizes is None else sizes.elements()
    return _RANK.get(node.op_type) if integers is None else len(integers.items)


def _at(values: Sequence[Value | None], index: int | None) -> Value | None:
    return None if index is None or index >= len(values) else values[index]


def _copy(source: Value | None, output: ir.Value) -> None:
    if source is None or source.dtype not in ONNX_TYPES:
        return
    if output.type is None:
        output.type = ir.TensorType(ONNX_TYPES[source.dtype])
    if output.shape is None and source.rank is not None:
        output.shape = ir.Shape([None] * source.rank)


def _infer(node: ir.Node, version: int, values: Sequence[Value | None]) -> None:
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        return
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value, known in zip(node.inputs, values, strict=True):
        if value is None or known is None:
            continue
        if known.dtype not in ONNX_TYPES:
            return
        sizes = None if known.rank is None else [None] * known.rank
        if known.constant is not None:
            sizes = list(known.constant.shape)
        kind = int(value.dtype or ONNX_TYPES[known.dtype])
        types[value.name or ""] = onnx.helper.make_tensor_type_proto(kind, sizes)
        integers = known.elements()
        if integers is not None and integers.known:
            shape = [] if integers.scalar else [len(integers.items)]
            data[value.name or ""] = onnx.helper.make_tensor(value.name or "", kind, shape, integers.items)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
        found = onnx.shape_inference.infer_node_outputs(schema, ir.to_proto(node), types, data)
    except _FAILURES:
        return  # rules do without
    for output in node.outputs:
        proto = found.get(output.name or "")
        if proto is None or not proto.HasField("tensor_type"):
            continue
        if output.type is None and proto.tensor_type.elem_type:
            output.type = ir.TensorType(ir.DataType(proto.tensor_type.elem_type))
        if output.shape is None and proto.tensor_type.HasField("shape"):
            dims = proto.tensor_type.shape.dim
            output.shape = ir.Shape([dim.dim_value if dim.HasField("dim_value") else None for dim in dims])
