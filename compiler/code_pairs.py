"""Products of 8-bit codes that a processor without an instruction for them may get wrong.

x86 before VNNI multiplies unsigned by signed codes with an instruction that adds two neighbouring products in 16 bits,
and saturates: u₂ᵢ·q₂ᵢ + u₂ᵢ₊₁·q₂ᵢ₊₁, u in [0, 255]. 255·128 < 2¹⁵, so nothing is lost where neighbours of one sign add
up to 128 at most. Neighbours are rows of a matrix, and of a convolution the input channels of one tap, then the next.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from .facts import Array
from .ir import constant_tensor, graphs, op_name

MOST = 128  # what neighbours of one sign add up to
MICROSOFT = "com.microsoft::"
CHUNK = 1 << 22  # codes that are looked at together
PRODUCTS: dict[str, tuple[int, ...]] = {  # where factors are, of unsigned codes
    "MatMulInteger": (1,),
    "QLinearConv": (3,),
    "QLinearMatMul": (3,),
    f"{MICROSOFT}QLinearConv": (3,),
    f"{MICROSOFT}MatMulIntegerToFloat": (1,),
    f"{MICROSOFT}DynamicQuantizeMatMul": (1,),
    f"{MICROSOFT}DynamicQuantizeLSTM": (1, 2),
    f"{MICROSOFT}QAttention": (1,),
    f"{MICROSOFT}QGemm": (3,),
}
DECODED = ("MatMul", "Gemm", "Conv")  # of two decoded operands: the runtime makes them products of codes
MOVED = ("Transpose", "Identity")  # what the runtime folds


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
    return sum(any(map(_overflows, _factors(node))) for graph in graphs(model.graph) for node in graph)


def _factors(node: ir.Node) -> Iterator[Array]:
    """The codes that unsigned ones are multiplied by, neighbours along the first axis."""
    name = op_name(node)
    operands = [node.inputs[i] for i in PRODUCTS.get(name, ()) if i < len(node.inputs)]
    if operands and node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.INT8:
        return  # signed codes have kernels of their own, which do not saturate
    if name in DECODED:
        decoded = [None if v is None else v.producer() for v in node.inputs[:2]]
        if all(d is not None and d.op_type == "DequantizeLinear" for d in decoded):
            operands = [decoded[1].inputs[0]] if decoded[1] is not None else []
    for operand in operands:
        codes = None if operand is None else _codes(operand)
        if codes is not None and codes.dtype == np.int8 and codes.ndim > 1:
            yield from _laid_out(node, name, codes)


def _codes(value: ir.Value) -> Array | None:
    """What is known when the runtime has folded the graph: an initializer or a Constant, also behind a Transpose."""
    tensor = constant_tensor(value)
    if tensor is not None:
        return tensor.numpy() if tensor.dtype == ir.DataType.INT8 else None
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Constant" and "value" in node.attributes:
        return node.attributes["value"].as_tensor().numpy()
    if node.op_type not in MOVED or node.inputs[0] is None:
        return None
    before, order = _codes(node.inputs[0]), node.attributes.get("perm")
    if before is None or node.op_type == "Identity":
        return before
    return before.transpose(None if order is None else order.as_ints())


def _laid_out(node: ir.Node, name: str, codes: Array) -> Iterator[Array]:
    if name.endswith("Conv"):
        group = node.attributes.get("group")
        if not adds_in_32_bits(codes.shape[1], len(codes), 1 if group is None else group.as_int()):
            yield as_factor(codes)
        return
    turned = node.attributes.get("transB") if name.endswith("Gemm") else None
    yield np.moveaxis(codes, -1 if turned is not None and turned.as_int() else -2, 0)


def _overflows(factor: Array) -> bool:
    rows = max(2, CHUNK // max(factor[0].size, 1) // 2 * 2)
    chunks = (factor[i : i + rows].astype(np.int16) for i in range(0, len(factor), rows))
    return any(bool(np.greater(together(chunk), MOST).any()) for chunk in chunks)
