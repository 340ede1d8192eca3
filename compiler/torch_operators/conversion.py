"""Changes of element type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from .dtypes import FLOAT8, INTEGER_RANGE, torch_dtype
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor

_NARROW_INTEGERS = (ir.DataType.INT2, ir.DataType.UINT2, ir.DataType.INT4, ir.DataType.UINT4)
# values of float4_e2m1; the magnitude of a tie goes to the even code
_E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


@operator("Cast")
def cast(op: Operation, x: Tensor) -> Tensor:
    """Conversion to the type of the attribute `to`."""
    to = op.required("to")
    return converted(op, x, ir.DataType[to] if isinstance(to, str) else ir.DataType(to))


@operator("CastLike")
def cast_like(op: Operation, x: Tensor, like: Tensor) -> Tensor:
    """Conversion to the type of another tensor."""
    dtype = op.onnx_dtype(1)
    return x.to(like.dtype) if dtype is None else converted(op, x, dtype)


@operator("BitCast")
def bit_cast(op: Operation, x: Tensor) -> Tensor:
    """The same bits read as another type."""
    to = ir.DataType(op.required("to"))
    if to in _NARROW_INTEGERS or op.onnx_dtype(0) in _NARROW_INTEGERS or to == ir.DataType.FLOAT4E2M1:
        raise Unsupported("torch carries types narrower than a byte in wider ones")
    if to == ir.DataType.BOOL or op.dtype(0) == torch.bool:
        return x.to(torch_dtype(to))  # a boolean's byte is 0 or 1
    return x.view(torch_dtype(to))


def converted(op: Operation, x: Tensor, to: ir.DataType) -> Tensor:
    """`x` in another ONNX type; attributes `saturate` and `round_mode` as in `Cast`."""
    dtype = torch_dtype(to)
    source = op.dtype(0)
    if to in _NARROW_INTEGERS:
        return op.call(to_narrow_integer, x, *INTEGER_RANGE[to]).to(dtype)
    if to == ir.DataType.FLOAT4E2M1:
        return op.call(to_float4, x)
    if dtype == torch.float8_e8m0fnu and source not in FLOAT8:
        return op.call(to_scale, x, op.attribute("round_mode", "up"), bool(op.attribute("saturate", 1)))
    if dtype in FLOAT8:
        return op.call(to_float8, x, dtype, bool(op.attribute("saturate", 1)))
    return x.to(dtype)


def to_narrow_integer(x: Tensor, low: int, high: int) -> Tensor:
    """Truncated to an integer, then wrapped into `low … high`."""
    wide = x.to(torch.float32).to(torch.int64) if x.dtype in FLOAT8 else x.to(torch.int64)
    return torch.remainder(wide - low, high - low + 1) + low


def to_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    """Rounded to an 8-bit float; overflow gives the largest finite number, or else infinity or NaN."""
    x = x.to(torch.float32)
    limit = torch.finfo(dtype).max
    if saturate:
        return x.clamp(-limit, limit).to(dtype)  # NaN passes through clamp
    # past the midpoint to the number that would follow the largest, rounding overflows
    mantissa = 3 if dtype in (torch.float8_e4m3fn, torch.float8_e4m3fnuz) else 2
    above = limit + 2.0 ** (np.floor(np.log2(limit)) - mantissa - 1)
    overflow = torch.inf if dtype == torch.float8_e5m2 else torch.nan
    inside = x.clamp(-limit, limit)
    even = int(torch.tensor(limit).to(dtype).view(torch.uint8).item()) % 2 == 0
    over = (x.abs() > above) | ((x.abs() == above) & (not even))
    return torch.where(over, torch.copysign(torch.full_like(x, overflow), x), inside).to(dtype)


def to_float4(x: Tensor) -> Tensor:
    """The nearest value of `float4_e2m1`, in float32; overflow gives ±6."""
    array = x.detach().to(torch.float32).cpu().numpy()
    rounded = torch.from_numpy(array.astype(ml_dtypes.float4_e2m1fn).astype(np.float32))
    return rounded.to(x.device)


def to_scale(x: Tensor, mode: str, saturate: bool) -> Tensor:
    """A power of two as `float8_e8m0`; rounded up, down or to the nearest (ties up)."""
    x = x.to(torch.float32)
    bits = x.view(torch.int32)
    exponent, mantissa = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    # a subnormal float32 has exponent field 0, which is the smallest power that the type holds
    if mode == "up":
        step = (mantissa > 0) & ((exponent > 0) | (mantissa > 0x400000))
    elif mode == "nearest":
        step = (mantissa >= 0x400000) & ((exponent > 0) | (mantissa > 0x400000))
    else:
        step = torch.zeros_like(mantissa, dtype=torch.bool)
    code = exponent + step.to(torch.int32)
    top = 254 if saturate else 255
    code = torch.where(x.isinf(), torch.full_like(code, top), code.clamp(max=top))
    code = torch.where(x.isnan() | (x < 0), torch.full_like(code, 255), code)
    return code.to(torch.uint8).view(torch.float8_e8m0fnu)
