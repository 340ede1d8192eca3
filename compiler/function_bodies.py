"""Operators that the ONNX standard itself defines by others, written out in a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
from onnx import defs
from onnx_ir.passes import common

from .opset import TARGET

DOMAIN = "tamago.body"


def write_out(model: ir.Model, wanted: Callable[[ir.Node], bool]) -> bool:
    """Put the standard's definition in the place of nodes; whether there was any.

    Args:
        model: types and shapes inferred; changed in place.
        wanted: which nodes; those that the standard does not define by others stay.
    """
    version = model.opset_imports.get("", TARGET)
    bodies = [(node, body) for node in model.graph if wanted(node) and (body := _body(node, version)) is not None]
    for number, (node, body) in enumerate(bodies):
        body.domain, body.name = DOMAIN, f"{node.op_type}_{number}"
        function = ir.from_proto(body)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = body.domain, body.name
    if bodies:
        model.opset_imports.setdefault(DOMAIN, 1)
        common.InlinePass()(model)
        model.opset_imports.pop(DOMAIN, None)
    return bool(bodies)


def _body(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type, version):
        return None
    schema: Any = defs.get_schema(node.op_type, version)  # its stubs lack what is asked here
    if schema.has_function:
        found = onnx.FunctionProto()
        found.CopyFrom(schema.function_body)
        return found
    if not schema.has_context_dependent_function:
        return None
    types = [b"" if v is None else _type(v) for v in node.inputs]
    text = schema.get_context_dependent_function(ir.to_proto(node).SerializeToString(), types)
    found = onnx.FunctionProto.FromString(text)
    return found if found.node else None


def _type(value: ir.Value) -> bytes:
    return ir.to_proto(value).type.SerializeToString()
