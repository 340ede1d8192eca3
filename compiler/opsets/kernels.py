"""Steps that keep an operator's meaning but lose something in ONNX Runtime 1.32 (CPU provider): they are not taken."""

from __future__ import annotations

import onnx_ir as ir

from ..ir import constant_tensor

LOST: dict[tuple[str, int], str] = {
    # Measured: 2-13 times slower in one and three dimensions, and in two where no blocked layout is used.
    ("AveragePool", 19): "ONNX Runtime's AveragePool of opset 19 is up to 13 times slower than that of 18",
    # Behind a Reshape or Transpose of its numbers the runtime puts a QuantizeLinear, from opset 21 on with an element
    # type that contradicts its zero point: files in signed codes then do not load.
    ("DequantizeLinear", 21): "ONNX Runtime's own rewriting of codes makes graphs that do not load from opset 21 on",
    **{
        (op, 22): f"ONNX Runtime has no kernel for {op} of opset 22"
        for op in (
            "Bernoulli",
            "GlobalLpPool",
            "MaxRoiPool",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
            "RoiAlign",
        )
    },
}


def loss(node: ir.Node, version: int) -> str | None:
    """What a node would lose by the step to a version; None where nothing."""
    if node.op_type == "DequantizeLinear" and not _is_of_signed_activations(node):
        return None
    return LOST.get((node.op_type, version))


def _is_of_signed_activations(node: ir.Node) -> bool:
    codes, zero = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    if zero is None or codes is None:  # without a zero point codes are unsigned, unless they say otherwise
        return codes is not None and codes.dtype == ir.DataType.INT8
    return constant_tensor(codes) is None and ir.DataType.UINT8 not in (zero.dtype, codes.dtype)
