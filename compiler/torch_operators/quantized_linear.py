"""Matrix products and convolutions of quantized tensors.

Sums of products of 8-bit integers are computed in float64, where they are exact, because torch multiplies integer
matrices slowly and convolves none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .convolution import convolution
from .operation import Operation
from .quantization import centred, quantized
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("MatMulInteger")
def matmul_integer(
    op: Operation, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Integer matrix product, in int32."""
    return op.call(integer_product, a, b, a_zero, b_zero).to(torch.int32)


@operator("QLinearMatMul")
def qlinear_matmul(
    op: Operation,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Product of quantized matrices, quantized."""
    return op.call(requantized_product, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)


@operator("ConvInteger")
def conv_integer(
    op: Operation, x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Integer convolution, in int32."""
    data = op.call(centred, x, x_zero, torch.float64)
    filters = op.call(centred_filters, weight, w_zero)
    return convolution(op, data, filters, None).to(torch.int32)


@operator("QLinearConv")
def qlinear_conv(
    op: Operation,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolution of quantized tensors, quantized."""
    data = op.call(centred, x, x_zero, torch.float64)
    filters = op.call(centred_filters, weight, w_zero)
    offset = None if bias is None else bias.to(torch.float64)
    total = convolution(op, data, filters, offset, weight_index=3)
    return op.call(requantized_channels, total, x_scale, w_scale, y_scale, y_zero)


def matrix_column(parameter: Tensor | None, matrix: Tensor) -> Tensor | None:
    """A parameter per row of a matrix, as a column (per batch where it has one)."""
    if parameter is None or parameter.dim() != 1 or parameter.numel() == 1 or matrix.dim() < 2:
        return parameter
    return parameter.unsqueeze(-1)


def integer_product(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """Product of centred integers, in float64."""
    left = centred(a, matrix_column(a_zero, a), torch.float64)
    return torch.matmul(left, centred(b, b_zero, torch.float64))


def requantized_product(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Product of quantized matrices, quantized."""
    total = integer_product(a, b, a_zero, b_zero).to(torch.float32)
    rows = matrix_column(a_scale, a)
    assert rows is not None
    factor = rows.to(torch.float32) * b_scale.to(torch.float32) / y_scale.to(torch.float32)
    return quantized(total * factor, torch.ones_like(factor), y_zero, y_zero.dtype)


def centred_filters(weight: Tensor, zero: Tensor | None) -> Tensor:
    """Filters minus their zero point, one for all or one for each output channel."""
    if zero is not None and zero.numel() > 1:
        zero = zero.reshape(-1, *[1] * (weight.dim() - 1))
    return centred(weight, zero, torch.float64)


def requantized_channels(total: Tensor, x_scale: Tensor, w_scale: Tensor, y_scale: Tensor, y_zero: Tensor) -> Tensor:
    """Integer sums of a convolution scaled per output channel and quantized."""
    factor = (x_scale * w_scale / y_scale).to(torch.float32)
    if factor.numel() > 1:
        factor = factor.reshape(-1, *[1] * (total.dim() - 2))
    return quantized(total.to(torch.float32) * factor, torch.ones_like(factor), y_zero, y_zero.dtype)
