"""Tensors that several integer nodes read are quantised once, and their other readers take the same codes.

Forms of neighbouring places are written one by one: each quantises its input and dequantises its output. Where two
agree on a tensor's scale and zero point:

    Q(D(q)) = q                 # what one place hands out, the next takes
    Q(x), Q(x) → Q(x)           # one tensor, quantised once
    f(x) → f(D(Q(x)))           # a sum or pooling beside a convolution reads the codes too: it can then run on them
    Slice(D(q)) = D(Slice(q))   # what only moves elements moves codes; padding with 0 pads with the zero point

The third step is an approximation of its own: it is part of the program that is measured and proved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import constant_tensor, digest

SAME = 1e-5  # relative: two places find one tensor's range, each from its own run
MOVES = frozenset(["Slice", "Pad", "MaxPool"])
JOINS = frozenset(
    ["Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Slice", "Pad", "Transpose"]
)


def share_codes(graph: ir.Graph, fresh: Callable[[str], str]) -> None:
    """Apply the four steps in place."""
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
    for node in list(graph):
        if node.op_type in MOVES and node.domain == "":
            _on_codes(graph, node, fresh)


def _on_codes(graph: ir.Graph, node: ir.Node, fresh: Callable[[str], str]) -> None:
    """Slice(D(q)) → D(Slice(q)); Pad(D(q), 0) → D(Pad(q, z))."""
    source = node.inputs[0]
    before = None if source is None else source.producer()
    if before is None or before.op_type != "DequantizeLinear" or before.domain or len(before.inputs) < 3:
        return
    scale, zero = before.inputs[1], before.inputs[2]
    tensor = None if zero is None else constant_tensor(zero)
    if tensor is None or tensor.size != 1 or before.inputs[0] is None:
        return
    operands = [before.inputs[0], *node.inputs[1:]]
    if node.op_type == "Pad":
        if not _pads_with_zero(node):
            return
        operands = [*operands[:2], zero, *operands[3:]]
    old = node.outputs[0]
    moved = ir.Node(
        "", node.op_type, operands, list(node.attributes.values()), num_outputs=1, name=fresh(f"{node.name}/codes")
    )
    moved.outputs[0].name = fresh(f"{old.name}/codes")
    again = ir.Node(
        "", "DequantizeLinear", [moved.outputs[0], scale, zero], num_outputs=1, name=fresh("tamago/decoded")
    )
    again.outputs[0].name = fresh(f"{old.name}/decoded")
    again.outputs[0].type, again.outputs[0].shape = old.type, old.shape
    if old.is_graph_output():
        return
    graph.insert_after(node, [moved, again])
    old.replace_all_uses_with(again.outputs[0])


def _pads_with_zero(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    value = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if value is None else constant_tensor(value)
    return value is None or (tensor is not None and not tensor.numpy().any())


def _key(node: ir.Node) -> tuple[object, ...] | None:
    found: list[object] = [node.op_type, node.inputs[0], *(f"{a.name}={a.value}" for a in node.attributes.values())]
    for value in node.inputs[1:]:
        tensor = None if value is None else constant_tensor(value)
        if tensor is None:
            return None
        found.append((str(tensor.dtype), digest(tensor.numpy())))
    return tuple(found)


def _skip_round_trip(node: ir.Node) -> None:
    """Q(D(q)) → q, where both have the same zero point, and scales that differ by no more than rounding."""
    source = node.inputs[0]
    before = None if source is None else source.producer()
    if before is None or before.op_type != "DequantizeLinear" or before.domain or before.inputs[0] is None:
        return
    first, second = _constants(before), _constants(node)
    if len(first) != 2 or len(second) != 2 or first[0].shape != second[0].shape:
        return
    if np.allclose(first[0], second[0], rtol=SAME, atol=0) and np.array_equal(first[1], second[1]):
        node.outputs[0].replace_all_uses_with(before.inputs[0])


def _constants(node: ir.Node) -> list[Array]:
    """Scale and zero point, as far as they are known."""
    tensors = [None if v is None else constant_tensor(v) for v in node.inputs[1:]]
    return [t.numpy() for t in tensors if t is not None]


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
