"""Quantization to integers and 8-bit floats, and back.

Rounding has no gradient, so none flows through `QuantizeLinear`; it flows through `DequantizeLinear` to the scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from .conversion import converted, to_float8
from .dtypes import FLOAT8, INTEGER_RANGE, torch_dtype
from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("QuantizeLinear")
@operator("QuantizeLinear", domain="com.microsoft")
def quantize_linear(op: Operation, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """`saturate(round(x / scale) + zero)`."""
    to = ir.DataType(op.attribute("output_dtype", 0)) or op.onnx_dtype(2) or ir.DataType.UINT8
    axis, block = op.attribute("axis", 1), op.attribute("block_size", 0)
    scale = spread(op, 1, scale, x, axis, block)
    precision = op.attribute("precision", 0)
    wide = torch_dtype(precision) if precision else torch.float32
    if op.dtype(0) != wide:
        x = x.to(wide)
    if op.dtype(1) != wide:
        scale = scale.to(wide)
    ratio = torch.div(x, scale)
    if to not in INTEGER_RANGE:
        return converted(op, ratio, to)
    rounded = torch.round(ratio)
    if zero is not None:
        rounded = torch.add(rounded, spread(op, 2, zero, x, axis, block).to(wide))
    return torch.clamp(rounded, *INTEGER_RANGE[to]).to(torch_dtype(to))


@operator("DequantizeLinear")
@operator("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(op: Operation, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """`(x - zero) · scale`, in the scale's type."""
    to = op.attribute("output_dtype", 0)
    axis, block = op.attribute("axis", 1), op.attribute("block_size", 0)
    # float32 holds every code but those of int32, whose difference is taken first
    exact = op.dtype(0) != torch.int32
    steps = x.to(torch.float32) if exact else x
    if zero is not None:
        zero = spread(op, 2, zero, x, axis, block)
        steps = torch.sub(steps, zero.to(torch.float32) if exact else zero)
    scale = spread(op, 1, scale, x, axis, block)
    result = torch.mul(
        steps if exact else steps.to(torch.float32),
        scale.to(torch.float32) if to or op.dtype(1) != torch.float32 else scale,
    )
    wanted = torch_dtype(to) if to else op.dtype(1)
    return result if wanted == torch.float32 else result.to(scale.dtype if wanted is None else wanted)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(op: Operation, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """8-bit quantization by the tensor's own range."""
    found = op.call(dynamically_quantized, x)
    return found[0], found[1], found[2]


def spread(op: Operation, index: int, parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts with `x`."""
    rank, own = op.rank(0), op.rank(index)
    if own == 0:
        return parameter
    if block or rank is None or own is None:
        return op.call(broadcastable, parameter, x, axis, block)
    if own != 1:
        return parameter
    axis = axis + rank if axis < 0 else axis
    if axis >= rank:  # one element stands for the whole tensor, whatever the axis
        return torch.reshape(parameter, [])
    view = [1] * rank
    view[axis] = -1
    return parameter if rank == axis + 1 else torch.reshape(parameter, view)


def broadcastable(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale per tensor, axis or block in a shape that broadcasts with `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = axis + x.dim() if axis < 0 else axis
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.dim() != 1:
        return parameter
    view = [1] * x.dim()
    view[axis] = -1
    return parameter.reshape(view)


def dynamically_quantized(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`x` in uint8, its scale and its zero point; the range always holds 0."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round((-low / safe).clamp(0, 255))
    steps = torch.round(x / safe) + zero
    return steps.clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def quantized(x: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`x` rounded to `dtype`; scale and zero point broadcast."""
    ratio = x / scale
    if dtype in FLOAT8:
        return to_float8(ratio, dtype, saturate=True)
    rounded = torch.round(ratio) if zero is None else torch.round(ratio) + zero.to(ratio.dtype)
    limits = torch.iinfo(dtype)
    return rounded.clamp(limits.min, limits.max).to(dtype)


def centred(x: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`x - zero` in a type that holds it exactly."""
    return x.to(dtype) if zero is None else x.to(dtype) - zero.to(dtype)
