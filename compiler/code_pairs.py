"""Products of 8-bit codes that a processor without an instruction for them may get wrong.

x86 before VNNI multiplies unsigned by signed codes with an instruction that adds two neighbouring products in 16 bits,
and saturates: u₂ᵢ·q₂ᵢ + u₂ᵢ₊₁·q₂ᵢ₊₁, u in [0, 255]. 255·128 < 2¹⁵, so nothing is lost where neighbours of one sign add
up to 128 at most. Neighbours are rows of a matrix, and of a convolution the input channels of one tap, then the next.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .facts import Array
from .ir import constant_tensor, graphs, op_name

MOST = 128  # what neighbours of one sign add up to
MICROSOFT = "com.microsoft::"
PRODUCTS = {  # where the second factor is
    "MatMulInteger": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    f"{MICROSOFT}MatMulIntegerToFloat": 1,
    f"{MICROSOFT}DynamicQuantizeMatMul": 1,
    f"{MICROSOFT}QGemm": 3,
}
DECODED = ("MatMul", "Gemm", "Conv")  # of decoded codes: the runtime makes them products of codes


def as_factor(weight: Array) -> Array:
    """A convolution's weight [out, in/groups, …] as the matrix [taps · in/groups, out] that kernels make of it."""
    return np.moveaxis(weight, (0, 1), (-1, -2)).reshape(-1, len(weight))


def together(factor: Array) -> Array:
    """|a₂ᵢ + a₂ᵢ₊₁| where both have one sign, else zero; of [in, out], in any number of bits that holds it."""
    even, odd = factor[0::2], np.zeros_like(factor[0::2])
    odd[: len(factor) // 2] = factor[1::2]
    one_sign = np.greater(even, 0) == np.greater(odd, 0)
    return np.where(one_sign, np.abs(np.add(even, odd)), 0)


def adds_in_32_bits(inputs: int, outputs: int, groups: int) -> bool:
    """Whether it is a convolution of each channel by itself: that has a kernel of its own."""
    return inputs == 1 and groups == outputs


def in_doubt(model: ir.Model) -> int:
    """How many products have codes that 16 bits are not enough for."""
    return sum(_overflows(node) for graph in graphs(model.graph) for node in graph)


def _overflows(node: ir.Node) -> bool:
    name = op_name(node)
    place = PRODUCTS.get(name, 1 if name in DECODED else None)
    codes = None if place is None or len(node.inputs) <= place else node.inputs[place]
    if name in DECODED and codes is not None:
        source = codes.producer()
        codes = source.inputs[0] if source is not None and source.op_type == "DequantizeLinear" else None
    tensor = None if codes is None else constant_tensor(codes)
    if tensor is None or tensor.dtype != ir.DataType.INT8 or len(tensor.shape) < 2:
        return False
    array = tensor.numpy().astype(np.int32)
    if name.endswith(("Conv", "ConvInteger")):
        group = node.attributes.get("group")
        if adds_in_32_bits(array.shape[1], len(array), 1 if group is None else group.as_int()):
            return False
        array = as_factor(array)
    elif name.endswith("Gemm") and (turned := node.attributes.get("transB")) is not None and turned.as_int():
        array = array.T
    return bool(np.greater(together(np.moveaxis(array, -2, 0)), MOST).any())
