"""Tensors that several integer nodes read are quantised once, and their other readers take the same codes.

Forms of neighbouring places are written one by one: each quantises its input and dequantises its output. Where two
agree on a tensor's scale and zero point:

    Q(D(q)) = q                 # what one place hands out, the next takes
    Q(x), Q(x) → Q(x)           # one tensor, quantised once
    f(x) → f(D(Q(x)))           # a sum or pooling beside a convolution reads the codes too: it can then run on them

The last step is an approximation of its own: it is part of the program that is measured and proved.
"""

from __future__ import annotations

import onnx_ir as ir

from ..ir import constant_tensor, digest

JOINS = frozenset(
    ["Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Slice", "Pad", "Transpose"]
)


def share_codes(graph: ir.Graph) -> None:
    """Apply the three steps in place."""
    for node in list(graph):
        if node.op_type == "QuantizeLinear" and node.domain == "":
            _skip_round_trip(node)
    shared: dict[tuple[object, ...], ir.Node] = {}
    for node in list(graph):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.domain:
            continue
        key = _key(node)
        if key is None:
            continue
        first = shared.setdefault(key, node)
        if first is not node and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(first.outputs[0])
    for node in list(graph):
        if node.op_type == "QuantizeLinear" and node.domain == "":
            _share(node)
    graph.sort()


def _key(node: ir.Node) -> tuple[object, ...] | None:
    found: list[object] = [node.op_type, node.inputs[0], *(f"{a.name}={a.value}" for a in node.attributes.values())]
    for value in node.inputs[1:]:
        tensor = None if value is None else constant_tensor(value)
        if tensor is None:
            return None
        found.append((str(tensor.dtype), digest(tensor.numpy())))
    return tuple(found)


def _skip_round_trip(node: ir.Node) -> None:
    """Q(D(q)) → q, where both have the same scale and zero point."""
    source = node.inputs[0]
    before = None if source is None else source.producer()
    if before is None or before.op_type != "DequantizeLinear" or before.domain or before.inputs[0] is None:
        return
    first, second = _key(before), _key(node)
    if first is None or second is None or first[2:] != second[2:]:
        return
    node.outputs[0].replace_all_uses_with(before.inputs[0])


def _share(node: ir.Node) -> None:
    """Other readers of a quantised tensor read its codes, dequantised."""
    source = node.inputs[0]
    after = next((u.node for u in node.outputs[0].uses() if u.node.op_type == "DequantizeLinear"), None)
    if source is None or after is None or len(node.inputs) < 3:
        return
    for use in list(source.uses()):
        if (
            use.node is not node
            and use.node.domain == ""
            and use.node.op_type in JOINS
            and use.node.graph is node.graph
        ):
            use.node.replace_input_with(use.idx, after.outputs[0])
