"""Quantized operators that ONNX Runtime's optimiser writes: dequantize, compute, quantize again.

Source: ONNX Runtime's operator schemas. Its kernels use tables and integer arithmetic, so that a result may differ by
one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from .contrib_linear import MICROSOFT
from .contrib_normalization import channels_first, channels_last
from .operation import Operation
from .pooling import average_pool, max_pool
from .quantization import centred, dynamically_quantized, quantized
from .quantized_linear import qlinear_conv
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


def qlinear_conv_layout(op: Operation, *inputs: Tensor | None) -> Any:
    """`QLinearConv` of images with channels in front."""
    if op.attribute("channels_last", 0):
        raise Unsupported("channels last")
    return qlinear_conv(op, *inputs)  # pyright: ignore[reportArgumentType]


operator("QLinearConv", domain=MICROSOFT)(qlinear_conv_layout)


@operator("QLinearAdd", "QLinearMul", domain=MICROSOFT, like=0)
def qlinear_pair(
    op: Operation,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Sum or product of two quantized tensors."""
    left, right = op.call(restored, a, a_scale, a_zero), op.call(restored, b, b_scale, b_zero)
    result = torch.add(left, right) if op.node.op_type == "QLinearAdd" else torch.mul(left, right)
    return op.call(stored, result, y_scale, y_zero, a)


@operator("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=MICROSOFT, like=0)
def qlinear_activation(
    op: Operation, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
) -> Tensor:
    """An activation of a quantized tensor."""
    wide, name = op.call(restored, x, x_scale, x_zero), op.node.op_type
    if name == "QLinearSigmoid":
        result = torch.sigmoid(wide)
    elif name == "QLinearLeakyRelu":
        result = functional.leaky_relu(wide, op.attribute("alpha", 0.01))
    elif op.attribute("opset", 13) >= 13:
        result = torch.softmax(wide, op.attribute("axis", -1))
    else:
        result = torch.softmax(torch.flatten(wide, op.attribute("axis", 1)), -1).reshape(x.shape)
    return op.call(stored, result, y_scale, y_zero, x)


@operator("QLinearGlobalAveragePool", "QLinearAveragePool", domain=MICROSOFT, like=0)
def qlinear_average(
    op: Operation, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
) -> Tensor:
    """A mean over windows, or over the whole image, of a quantized tensor."""
    last = bool(op.attribute("channels_last", 0))
    wide = op.call(restored, x, x_scale, x_zero)
    wide = op.call(channels_first, wide) if last else wide
    result = op.call(spatial_mean, wide) if "Global" in op.node.op_type else average_pool(op, wide)
    result = op.call(channels_last, result) if last else result
    return op.call(stored, result, y_scale, y_zero, x)


@operator("QLinearReduceMean", domain=MICROSOFT)
def qlinear_reduce_mean(
    op: Operation, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
) -> Tensor:
    """A mean over axes of a quantized tensor."""
    wide = op.call(restored, x, x_scale, x_zero)
    result = torch.mean(wide, op.numbers("axes") or [], bool(op.attribute("keepdims", 1)))
    return op.call(stored, result, y_scale, y_zero, x)


@operator("QLinearWhere", domain=MICROSOFT)
def qlinear_where(
    op: Operation,
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor | None,
    z_scale: Tensor,
    z_zero: Tensor | None = None,
) -> Tensor:
    """Choice between quantized tensors."""
    result = torch.where(condition, op.call(restored, x, x_scale, x_zero), op.call(restored, y, y_scale, y_zero))
    return op.call(stored, result, z_scale, z_zero, x)


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(op: Operation, y_scale: Tensor, y_zero: Tensor, *inputs: Tensor) -> Tensor:
    """Quantized tensors of different scales, one after the other."""
    parts = [op.call(restored, *inputs[index : index + 3]) for index in range(0, len(inputs), 3)]
    return op.call(stored, torch.cat(parts, op.required("axis")), y_scale, y_zero, inputs[0])


@operator("QGemm", domain=MICROSOFT)
def qgemm(
    op: Operation,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Gemm of quantized matrices; quantized again when a scale for the result is given."""
    settings = (op.attribute("alpha", 1.0), bool(op.attribute("transA", 0)), bool(op.attribute("transB", 0)))
    result = op.call(quantized_gemm, a, a_scale, a_zero, b, b_scale, b_zero, c, *settings)
    return result if y_scale is None else op.call(stored, result, y_scale, y_zero, a)


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    op: Operation,
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Product of quantized matrices, in floating point."""
    return op.call(float_product, a, b, a_scale, b_scale, a_zero, b_zero, bias)


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(
    op: Operation,
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Product of a tensor quantized on the way and a quantized matrix, in floating point."""
    found = op.call(dynamically_quantized, a)
    return op.call(float_product, found[0], b, found[1], b_scale, found[2], b_zero, bias)


@operator("NhwcMaxPool", domain=MICROSOFT, like=0)
def nhwc_max_pool(op: Operation, x: Tensor) -> Tensor:
    """Largest element of windows, channels last."""
    pooled = max_pool(op, op.call(channels_first, x))
    return op.call(channels_last, pooled)


def restored(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """A quantized tensor in floating point."""
    return centred(x, zero, torch.float32) * scale


def stored(x: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    """A tensor quantized to the type of its zero point, or of `like` without one."""
    return quantized(x, scale, zero, like.dtype if zero is None else zero.dtype)


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over the axes after batch and channels."""
    return x.mean(list(range(2, x.dim())), True)


def quantized_gemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None,
    alpha: float,
    trans_a: bool,
    trans_b: bool,
) -> Tensor:
    """Gemm of quantized matrices, in float32; parameters of B are per tensor or per column of the result."""
    left = centred(a.t() if trans_a else a, a_zero, torch.float64)
    right = centred(b.t() if trans_b else b, b_zero, torch.float64)
    total = torch.mm(left, right)
    total = total if c is None else total + c.to(torch.float64)
    return total.to(torch.float32) * (alpha * a_scale * b_scale)


def float_product(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None,
    b_zero: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """Product of quantized matrices, in floating point."""
    total = torch.matmul(centred(a, a_zero, torch.float64), centred(b, b_zero, torch.float64))
    result = total.to(torch.float32) * (a_scale * b_scale)
    return result if bias is None else result + bias
