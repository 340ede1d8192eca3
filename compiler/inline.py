"""Model-local functions, written out where they are called."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from .opset import same_meaning

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_Functions = Mapping[ir.OperatorIdentifier, ir.Function]


def inline(model: ir.Model) -> None:
    """Put the bodies of functions in the place of their calls, as far as that says the same.

    Calls stay where the body's operators mean something else at the model's opset, where a graph is handed over as an
    attribute, and where there are more inputs or outputs than the function has: what runs the model judges those.

    Args:
        model: changed in place; no function calls itself.
    """
    functions = model.functions
    calls = [node for node in _nodes(model) if node.op_identifier() in functions]
    stays = {node.op_identifier() for node in calls if not _is_plain(node, functions[node.op_identifier()])}
    opsets = dict(model.opset_imports)
    for identifier, function in functions.items():
        for domain, version in function.opset_imports.items():
            opsets.setdefault(domain, version)
        if not _reads_alike(function, opsets, functions):
            stays.add(identifier)
    for node in calls:
        # A call may leave out its last outputs; the pass wants all that the function has.
        if node.op_identifier() not in stays:
            node.resize_outputs(len(functions[node.op_identifier()].outputs))
    for identifier, function in functions.items():
        if identifier not in stays:
            function.opset_imports.update({domain: opsets[domain] for domain in function.opset_imports})
    common.InlinePass(lambda function: function.identifier() not in stays)(model)


def _nodes(model: ir.Model) -> list[ir.Node]:
    return [node for container in (model.graph, *model.functions.values()) for node in container.all_nodes()]


def _is_plain(call: ir.Node, function: ir.Function) -> bool:
    if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
        return False
    return not any(attribute.type in _GRAPHS for attribute in call.attributes.values())


def _reads_alike(function: ir.Function, opsets: Mapping[str, int], functions: _Functions) -> bool:
    """Whether every operator of a body means the same at the model's opsets.

    Of domains other than ONNX's own it is only known that one version has one meaning; the version of a domain of
    functions says nothing, since a function is what it is.
    """
    for node in function.all_nodes():
        own, outer = function.opset_imports.get(node.domain), opsets.get(node.domain)
        if node.op_identifier() in functions or own is None or outer is None or own == outer:
            continue
        if node.domain != "" or not same_meaning(node.op_type, own, outer):
            return False
    return True
