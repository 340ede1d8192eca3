"""Operators that the ONNX standard itself defines by others, written out in a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
from onnx import defs
from onnx_ir.passes import common

from .opset import TARGET, same_meaning, to_target

DOMAIN = "tamago.body"
LOOPS = ("Loop", "Scan")  # a definition by a loop helps nobody who has no kernel for the operator


def write_out(model: ir.Model, wanted: Callable[[ir.Node], bool]) -> bool:
    """Put the standard's definition in the place of nodes; whether there was any.

    Args:
        model: types and shapes inferred; changed in place.
        wanted: which nodes; those that the standard does not define by others stay.
    """
    version = model.opset_imports.get("", TARGET)
    found = False
    for number, node in enumerate(list(model.graph)):
        function = _function(node, version, f"{node.op_type}_{number}") if wanted(node) else None
        if function is not None:
            model.functions[function.identifier()] = function
            node.domain, node.op_type = function.domain, function.name
            found = True
    if found:
        model.opset_imports.setdefault(DOMAIN, 1)
        common.InlinePass()(model)
        model.opset_imports.pop(DOMAIN, None)
    return found


def _function(node: ir.Node, version: int, name: str) -> ir.Function | None:
    body = _body(node, version)
    if body is None or any(inner.op_type in LOOPS for inner in body.node) or not _is_complete(body, node):
        return None
    del body.output[len(node.outputs) :]
    body.domain, body.name = DOMAIN, name
    for attribute in defs.get_schema(node.op_type, version).attributes.values():
        if attribute.name not in node.attributes and attribute.default_value.type:
            node.attributes.add(ir.from_proto(attribute.default_value))
    return _at(ir.from_proto(body), version)


def _body(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type, version):
        return None
    schema: Any = defs.get_schema(node.op_type, version)  # onnx's stubs lack most of it
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


def _is_complete(body: onnx.FunctionProto, node: ir.Node) -> bool:
    """Whether a body computes what is read; outputs that it leaves out since nobody asked for them become constants."""
    made = {name for inner in body.node for name in inner.output} | set(body.input)
    for number, name in enumerate(body.output):
        if name in made:
            continue
        value = node.outputs[number] if number < len(node.outputs) else None
        if value is not None and value.name and (value.uses() or value.is_graph_output()):
            return False
        body.node.append(onnx.helper.make_node("Constant", [], [name], value_int=0))
    return True


def _at(function: ir.Function, version: int) -> ir.Function | None:
    """A body as it is written at the model's opset; None where it cannot be said so."""
    written = function.opset_imports.get("", version)
    if all(same_meaning(node.op_type, written, version) for node in function.all_nodes() if node.domain == ""):
        function.opset_imports[""] = version
        return function
    holder = ir.Model(ir.Graph((), (), nodes=(), opset_imports={"": written}), ir_version=10, functions=[function])
    to_target(holder, version)
    return function if function.opset_imports.get("", 0) == version else None
