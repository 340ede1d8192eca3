"""Which nodes are means over the pixels of pictures, as the kernel computes them."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.ir import constant_array, dims
from .row_norm import HALVES


def means_pixels(node: ir.Node) -> bool:
    """Whether a GlobalAveragePool or ReduceMean is one over the two pixel axes of pictures in half precision."""
    if node.domain or node.op_type not in ("GlobalAveragePool", "ReduceMean") or not node.inputs:
        return False
    x = node.inputs[0]
    shape = None if x is None else dims(x)
    if x is None or shape is None or len(shape) != 4 or x.dtype not in HALVES or 0 in shape:
        return False
    return node.op_type == "GlobalAveragePool" or _axes(node) == [2, 3]


def keeps(node: ir.Node) -> bool:
    """Whether such a node's result has the pixel axes, of one each."""
    return "keepdims" not in node.attributes or bool(node.attributes["keepdims"].as_int())


def _axes(node: ir.Node) -> list[int] | None:
    """Of a picture, counted from the front; None where they are computed. An attribute at first, an input later."""
    if "axes" in node.attributes:
        return sorted(int(a) % 4 for a in node.attributes["axes"].as_ints())
    given = node.inputs[1] if len(node.inputs) > 1 else None
    array = None if given is None else constant_array(given, 4)
    return None if array is None else sorted(int(a) % 4 for a in array.reshape(-1))
