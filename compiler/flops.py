"""Floating-point operations of one run of a graph: two for each multiply-add, one for each element otherwise."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from .ir import attribute_values, dims, graphs, op_name


def flops(graph: ir.Graph) -> int | None:
    """The sum over all nodes; a dimension that is a name counts as 1.

    Returns:
        None when the shape of some product's operand is not known.
    """
    total = 0
    for inner in graphs(graph):
        for node in inner:
            found = node_flops(node)
            if found is None:
                return None
            total += found
    return total


_FREE = frozenset(
    [
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Shape",
        "Size",
        "Constant",
        "ConstantOfShape",
        "Cast",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "GatherElements",
        "GatherND",
        "Expand",
        "Tile",
        "Pad",
        "If",
        "Loop",
        "Scan",
        "Where",
        "Range",
    ]
)


def node_flops(node: ir.Node) -> int | None:
    """Operations of one node; None when a product's shapes are not known."""
    name = op_name(node)
    if name in _FREE or not node.outputs:
        return 0
    shapes = [None if v is None else _sizes(v) for v in node.inputs]
    result = _sizes(node.outputs[0])
    match name:
        case (
            "MatMul"
            | "MatMulInteger"
            | "com.microsoft::FusedMatMul"
            | "com.microsoft::MatMulIntegerToFloat"
            | "com.microsoft::DynamicQuantizeMatMul"
            | "com.microsoft::MatMulNBits"
            | "QLinearMatMul"
        ):
            return None if result is None or not shapes[0] else 2 * prod(result) * shapes[0][-1]
        case "Gemm" | "com.microsoft::QGemm":
            if result is None or shapes[0] is None:
                return None
            return 2 * prod(result) * shapes[0][0 if attribute_values(node).get("transA", 0) else -1]
        case "Conv" | "ConvInteger" | "com.microsoft::FusedConv":
            return None if result is None or shapes[1] is None else 2 * prod(result) * prod(shapes[1][1:])
        case "QLinearConv":
            return None if result is None or shapes[3] is None else 2 * prod(result) * prod(shapes[3][1:])
        case "ConvTranspose":
            return None if not shapes[0] or shapes[1] is None else 2 * prod(shapes[0]) * prod(shapes[1][1:])
        case "Attention":
            if result is None or not shapes[1]:
                return None
            return 4 * prod(result) * shapes[1][-2]
        case "LSTM" | "GRU" | "RNN":
            if shapes[0] is None or shapes[1] is None or shapes[2] is None:
                return None
            return 2 * shapes[0][0] * shapes[0][1] * (prod(shapes[1]) + prod(shapes[2]))
        case _:
            return 0 if result is None else prod(result)


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    shape = dims(value)
    return None if shape is None else tuple(d if isinstance(d, int) else 1 for d in shape)
