"""Operators without a rule of ours: onnx's own inference for one node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, TypeProto, helper, numpy_helper, shape_inference

from ..facts import Contradiction, Dim, Shape
from ..opset import TARGET
from ..schema import split_name
from .call import UNKNOWN, Call, Known, Operand

_IR_VERSION = 10


def ask_onnx(call: Call) -> list[Known]:
    """What onnx infers for the call; unknown where it knows no such operator.

    Raises:
        Contradiction: onnx refuses the operands.
    """
    schema = schema_at(call.op, call.version)
    if schema is None or any(o is not None and o.dtype is None for o in call.operands):
        return [UNKNOWN] * call.outputs
    names = [f"x{i}" if o is not None else "" for i, o in enumerate(call.operands)]
    types = {n: type_of(o.dtype, o.shape) for n, o in zip(names, call.operands, strict=True) if o is not None}
    contents = {n: _contents(o) for n, o in zip(names, call.operands, strict=True) if o is not None}
    node = make_node(call.op, names, [f"y{i}" for i in range(call.outputs)], call.attributes)
    found = infer_types(schema, node, types, {n: t for n, t in contents.items() if t is not None}, call)
    return [known_of(found.get(f"y{i}")) for i in range(call.outputs)]


@cache
def schema_at(op: str, version: int) -> onnx.defs.OpSchema | None:
    """The operator's schema at a version of its own domain, None where onnx knows none."""
    domain, name = split_name(op)
    try:
        return onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return None


def infer_types(
    schema: onnx.defs.OpSchema,
    node: onnx.NodeProto,
    types: Mapping[str, TypeProto],
    contents: Mapping[str, TensorProto],
    call: Call,
) -> Mapping[str, TypeProto]:
    """Types of the node's outputs by name.

    Raises:
        Contradiction: onnx refuses the operands.
    """
    domain, _ = split_name(call.op)
    imports = [helper.make_opsetid(domain, call.version)] + ([helper.make_opsetid("", TARGET)] if domain else [])
    try:
        return shape_inference.infer_node_outputs(
            schema, node, dict(types), dict(contents), opset_imports=imports, ir_version=_IR_VERSION
        )
    except Exception as error:  # onnx's own exceptions share no base but Exception
        raise Contradiction(f"{call.op}: {str(error).strip()}") from error


def make_node(op: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, Any]) -> onnx.NodeProto:
    """A node with attributes given as Python values."""
    domain, name = split_name(op)
    node = helper.make_node(name, inputs, outputs, domain=domain)
    for key, value in sorted(attributes.items()):
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        if value is not None and not (isinstance(value, (tuple, list)) and not value):
            node.attribute.append(helper.make_attribute(key, value))
    return node


def type_of(dtype: int | None, shape: Shape | None) -> TypeProto:
    """A tensor's type."""
    found = TypeProto()
    found.tensor_type.elem_type = dtype or 0
    if shape is not None:
        found.tensor_type.shape.SetInParent()
        for dim in shape:
            entry = found.tensor_type.shape.dim.add()
            if isinstance(dim, int):
                entry.dim_value = dim
            elif dim is not None:
                entry.dim_param = dim
    return found


def _contents(operand: Operand) -> TensorProto | None:
    data, shape = operand.data, operand.shape
    if data is None or shape is None or operand.dtype is None or not all(isinstance(d, (int, float)) for d in data):
        return None
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) != len(shape) or int(np.prod(sizes)) != len(data):
        return None
    array = np.asarray(data, dtype=ir.DataType(operand.dtype).numpy()).reshape(sizes)
    return numpy_helper.from_array(array)


def known_of(found: TypeProto | None) -> Known:
    """What a type says of a tensor."""
    if found is None or not found.HasField("tensor_type"):
        return UNKNOWN
    tensor = found.tensor_type
    dtype = tensor.elem_type or None
    return dtype, tuple(map(_dim, tensor.shape.dim)) if tensor.HasField("shape") else None


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    # onnx makes up names for dimensions it does not know; a name must mean something.
    name = str(dim.dim_param)
    return None if not name or name.startswith("unk__") else name
