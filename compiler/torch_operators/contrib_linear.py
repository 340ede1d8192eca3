"""Activations, products and convolutions that ONNX Runtime's optimiser writes (domain `com.microsoft`).

Source: ONNX Runtime's operator schemas (docs/ContribOperators.md); behaviour checked against its CPU provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch.nn import functional

from .convolution import convolution
from .indexing import gather_nd
from .linear import gemm
from .operation import Operation
from .padding import pad
from .recurrent import activation_function
from .registry import Unsupported, operator
from .shape import trilu, unsqueeze

if TYPE_CHECKING:
    from torch import Tensor

MICROSOFT = "com.microsoft"

# the same operators under another domain
operator("Pad", domain=MICROSOFT)(pad)
operator("Trilu", domain=MICROSOFT)(trilu)
operator("GatherND", domain=MICROSOFT)(gather_nd)
operator("ExpandDims", domain=MICROSOFT)(unsqueeze)


@operator("Gelu", domain=MICROSOFT, like=0)
def gelu(op: Operation, x: Tensor) -> Tensor:
    """Exact Gelu."""
    return functional.gelu(x)


@operator("BiasGelu", domain=MICROSOFT, like=0)
def bias_gelu(op: Operation, x: Tensor, bias: Tensor) -> Tensor:
    """Exact Gelu of a sum."""
    return functional.gelu(torch.add(x, bias))


@operator("FastGelu", domain=MICROSOFT, like=0)
def fast_gelu(op: Operation, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by tanh, of a sum."""
    return functional.gelu(x if bias is None else torch.add(x, bias), approximate="tanh")


@operator("GemmFastGelu", domain=MICROSOFT, like=0)
def gemm_fast_gelu(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by tanh, of a product."""
    return fast_gelu(op, torch.matmul(x, weight), bias)


@operator("QuickGelu", domain=MICROSOFT, like=0)
def quick_gelu(op: Operation, x: Tensor) -> Tensor:
    """`x·sigmoid(alpha·x)`."""
    return torch.mul(x, torch.sigmoid(torch.mul(x, op.attribute("alpha", 1.702))))


@operator("BiasSoftmax", domain=MICROSOFT, like=0)
def bias_softmax(op: Operation, x: Tensor, bias: Tensor) -> Tensor:
    """Softmax of a sum, over the axes from `axis` on taken as one."""
    axis, inner = op.attribute("axis", 1), bool(op.attribute("is_inner_broadcast", 1))
    return op.call(softmax_of_sum, x, bias, axis, inner)


@operator("Inverse", domain=MICROSOFT, like=0)
def inverse(op: Operation, x: Tensor) -> Tensor:
    """Inverses of the matrices in the last two axes."""
    return torch.linalg.inv(x)


@operator("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Scaled product of matrices that may be transposed first, and an activation of it."""
    if op.attribute("transBatchA", 0):
        a = op.call(first_axis_inward, a)
    if op.attribute("transBatchB", 0):
        b = op.call(first_axis_inward, b)
    a = torch.transpose(a, -2, -1) if op.attribute("transA", 0) and op.rank(0) != 1 else a
    b = torch.transpose(b, -2, -1) if op.attribute("transB", 0) and op.rank(1) != 1 else b
    alpha = op.attribute("alpha", 1.0)
    product = torch.matmul(a, b)
    return activated(op, product if alpha == 1.0 else torch.mul(product, alpha))


@operator("FusedGemm", domain=MICROSOFT, like=0)
def fused_gemm(op: Operation, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm and an activation."""
    op.version = 13  # the standard operator it is made of
    return activated(op, gemm(op, a, b, c))


@operator("FusedConv", domain=MICROSOFT, like=0)
def fused_conv(
    op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None, addend: Tensor | None = None
) -> Tensor:
    """Convolution, a sum, and an activation."""
    y = convolution(op, x, weight, bias)
    return activated(op, y if addend is None else torch.add(y, addend))


@operator("MatMulNBits", domain=MICROSOFT, like=0)
def matmul_nbits(
    op: Operation,
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    groups: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Product with a weight of 2, 4 or 8 bits in blocks."""
    size = (op.required("N"), op.required("K"))
    weight = op.call(
        unpacked_weight, b, scales, zeros, groups, size, op.attribute("bits", 4), op.required("block_size")
    )
    return functional.linear(a, weight, bias)


@operator("GatherBlockQuantized", domain=MICROSOFT, like=2)
def gather_block_quantized(
    op: Operation, table: Tensor, indices: Tensor, scales: Tensor, zeros: Tensor | None = None
) -> Tensor:
    """Rows of a table of 4 or 8 bit codes in blocks."""
    axes = (op.attribute("gather_axis", 0), op.attribute("quantize_axis", 1))
    if op.rank(0) != 2 or axes != (0, 1) or op.onnx_dtype(0) != ir.DataType.UINT8:
        raise Unsupported("only rows of a matrix of packed bytes, in blocks along the row")
    return op.call(
        gathered_rows, table, indices, scales, zeros, op.attribute("bits", 4), op.attribute("block_size", 128)
    )


def activated(op: Operation, x: Tensor) -> Tensor:
    """The node's `activation`, with parameters as a list or as alpha, beta and gamma."""
    name = op.attribute("activation", "")
    parameters = op.numbers("activation_params") or []
    for index, key in enumerate(("activation_alpha", "activation_beta", "activation_gamma")):
        if key in op.node.attributes and index == len(parameters):
            parameters.append(op.required(key))
    if not name:
        return x
    if name == "Clip":
        return torch.clamp(x, parameters[0], parameters[1])
    if name in ("Relu", "Sigmoid", "Tanh"):
        return {"Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh}[name](x)
    return activation_function(name, parameters)(x)


def first_axis_inward(x: Tensor) -> Tensor:
    """(d₀, …, dₙ₋₂, dₙ₋₁) → (…, dₙ₋₂, d₀, dₙ₋₁)."""
    return x.movedim(0, -2)


def softmax_of_sum(x: Tensor, bias: Tensor, axis: int, inner: bool) -> Tensor:
    """Softmax over the axes from `axis` on; the bias repeats along the axes just before, or else the first ones."""
    axis = axis + x.dim() if axis < 0 else axis
    if inner and bias.dim() < x.dim():
        batch = bias.shape[: bias.dim() - (x.dim() - axis)]
        bias = bias.reshape(*batch, *[1] * (axis - len(batch)), *x.shape[axis:])
    return torch.softmax((x + bias).flatten(axis), -1).reshape(x.shape)


def unpacked_weight(
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    groups: Tensor | None,
    size: tuple[int, int],
    bits: int,
    block: int,
) -> Tensor:
    """The weight (N, K) of packed codes (N, blocks, bytes); the code in the lowest bits comes first."""
    n, k = size
    blocks = -(-k // block)
    codes = unpacked(packed.reshape(n, blocks, -1), bits)[..., :block].to(scales.dtype)
    if zeros is None:
        offset = torch.full((1, 1), float(2 ** (bits - 1)), dtype=scales.dtype, device=scales.device)
    elif zeros.dtype == torch.uint8:
        offset = unpacked(zeros.reshape(n, -1), bits)[:, :blocks].to(scales.dtype)
    else:
        offset = zeros.reshape(n, blocks)
    factors = scales.reshape(n, blocks)
    if groups is not None:
        order = groups.to(torch.int64)
        offset = offset.expand(n, blocks)
        return (codes.reshape(n, -1)[:, :k] - offset[:, order]) * factors[:, order]
    weight = (codes - offset.unsqueeze(-1)) * factors.unsqueeze(-1)
    return weight.reshape(n, -1)[:, :k]


def gathered_rows(
    table: Tensor, indices: Tensor, scales: Tensor, zeros: Tensor | None, bits: int, block: int
) -> Tensor:
    """(code − zero)·scale of the rows that the indices name."""
    steps = scales[indices]
    codes = unpacked(table[indices], bits).unflatten(-1, (-1, block)).to(scales.dtype)
    blocks = steps.shape[-1]
    if zeros is None:
        offset = torch.full_like(steps, float(2 ** (bits - 1)))
    else:
        offset = unpacked(zeros[indices], bits)[..., :blocks].to(scales.dtype)
    return ((codes - offset.unsqueeze(-1)) * steps.unsqueeze(-1)).flatten(-2)


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """Codes of a byte array, along its last axis."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> shifts) & (2**bits - 1)).flatten(-2)
