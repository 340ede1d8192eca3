"""ONNX element types as torch dtypes, and tensors across the border.

Torch has no 2- and 4-bit integers that compute: they are carried in `int8` / `uint8`, one value an element.
`float4_e2m1` is carried in `float32`, on its own grid of values.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from ..scratch import aligned
from .registry import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

_TORCH: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    ir.DataType.FLOAT4E2M1: torch.float32,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.INT2: torch.int8,
    ir.DataType.UINT2: torch.uint8,
}

INTEGER_RANGE: dict[ir.DataType, tuple[int, int]] = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
    ir.DataType.UINT32: (0, 2**32 - 1),
    ir.DataType.INT64: (-(2**63), 2**63 - 1),
    ir.DataType.UINT64: (0, 2**64 - 1),
}

# the ONNX type of each torch dtype (for those that carry several, the one that torch means)
ONNX_TYPES: dict[torch.dtype | None, ir.DataType] = {
    dtype: onnx for onnx, dtype in reversed(_TORCH.items()) if onnx.name not in ("INT4", "UINT4", "INT2", "UINT2")
}

# numpy's own view of a type that `torch.from_numpy` refuses, and the torch dtype of the same bits
_BY_BITS: dict[str, tuple[type[np.generic], torch.dtype]] = {
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e4m3fnuz": (np.uint8, torch.float8_e4m3fnuz),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
    "float8_e5m2fnuz": (np.uint8, torch.float8_e5m2fnuz),
    "float8_e8m0fnu": (np.uint8, torch.float8_e8m0fnu),
}
_BY_VALUE: dict[str, type[np.generic]] = {
    "int4": np.int8,
    "int2": np.int8,
    "uint4": np.uint8,
    "uint2": np.uint8,
    "float4_e2m1fn": np.float32,
}
_NARROW: dict[ir.DataType, Any] = {
    ir.DataType.INT4: ml_dtypes.int4,
    ir.DataType.UINT4: ml_dtypes.uint4,
    ir.DataType.INT2: ml_dtypes.int2,
    ir.DataType.UINT2: ml_dtypes.uint2,
    ir.DataType.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
}

# dtypes whose gradients autograd accumulates
TRAINABLE = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# torch stores these but computes next to nothing on them
STORAGE_ONLY = (torch.uint16, torch.uint32, torch.uint64)
FLOAT8 = (
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
)


def torch_dtype(dtype: ir.DataType | int) -> torch.dtype:
    """The torch dtype that carries an ONNX element type.

    Raises:
        Unsupported: torch has none (strings, 6-bit floats).
    """
    dtype = ir.DataType(dtype)
    if dtype not in _TORCH:
        raise Unsupported(f"torch has no tensors of {dtype.name}")
    return _TORCH[dtype]


def to_torch(array: np.ndarray[Any, Any] | ir.TensorProtocol, *, share: bool = False) -> Tensor:
    """A CPU tensor that owns a copy of the array's values.

    Args:
        array: of any type that torch can hold.
        share: the tensor is only read: where nobody can write to the array, mapped from a file or not, no copy is made.

    Raises:
        Unsupported: an array of strings or of another type torch cannot hold.
    """
    array = array if isinstance(array, np.ndarray) else array.numpy()
    name = array.dtype.name
    if name in _BY_BITS:
        bits, dtype = _BY_BITS[name]
        return torch.from_numpy(np.array(array.view(bits))).view(dtype)
    if name in _BY_VALUE:
        return torch.from_numpy(array.astype(_BY_VALUE[name]))
    if array.dtype.kind not in "fiubc":
        raise Unsupported(f"torch has no tensors of {name}")
    native = array.dtype.newbyteorder("=")
    if share and not array.flags.writeable and array.dtype == native and array.flags.c_contiguous:
        with warnings.catch_warnings():  # torch warns that writing to such a tensor would be undefined
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(aligned(array))
    return torch.from_numpy(np.array(array, dtype=native, copy=True, order="C"))


def to_numpy(tensor: Tensor, dtype: ir.DataType | None = None) -> np.ndarray[Any, Any]:
    """The tensor as an array; `dtype` restores element types that torch carries in a wider one."""
    tensor = tensor.detach().cpu().resolve_conj().contiguous()
    if dtype is not None and dtype in _NARROW:
        return tensor.numpy().astype(_NARROW[dtype])
    for name, (bits, carried) in _BY_BITS.items():
        if tensor.dtype == carried:
            raw = tensor.view(torch.int16 if bits is np.int16 else torch.uint8).numpy()
            return raw.view(getattr(ml_dtypes, name))
    return tensor.numpy()
