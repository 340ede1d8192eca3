"""What a target that computes in floating point makes of forms: integer arithmetic gains nothing there.

Weights in few bits are read as they lie, or made wide when a program is loaded; activations stay as they are.
"""

from __future__ import annotations

import onnx_ir as ir

INTEGER = frozenset(
    ["ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"]
)


def with_float_activations(model: ir.Model) -> ir.Model:
    """The model, changed in place, whose products round no activations in any runtime."""
    for node in filter(_is_coarse, model.graph.all_nodes()):
        del node.attributes["accuracy_level"]
    return model


def _is_coarse(node: ir.Node) -> bool:
    return node.domain == "com.microsoft" and node.op_type == "MatMulNBits" and "accuracy_level" in node.attributes
