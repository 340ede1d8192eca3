"""Torch tensors in, NumPy arrays out, and back, without a copy where both can share the memory.

NumPy has no bfloat16 and no 8-bit floats of its own: `ml_dtypes` supplies them, which is also what onnx_ir hands out.
ONNX graphs from torch carry complex numbers as a last axis of two reals, so complex tensors cross in that form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from .facts import Array

if TYPE_CHECKING:
    import torch

# torch dtype name -> (the integer type with the same bits, the NumPy type)
_BORROWED: dict[str, tuple[str, Any]] = {
    "bfloat16": ("uint16", ml_dtypes.bfloat16),
    "float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": ("uint8", ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": ("uint8", ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": ("uint8", ml_dtypes.float8_e8m0fnu),
}
_BORROWED_BACK = {np.dtype(scalar): (name, bits) for name, (bits, scalar) in _BORROWED.items()}


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The NumPy type that carries `dtype` through a graph; complex types map to the type of their parts."""
    name = str(dtype).removeprefix("torch.")
    if name in _BORROWED:
        return np.dtype(_BORROWED[name][1])
    complex_parts = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
    return np.dtype(complex_parts.get(name, name))


def to_numpy(value: object) -> Array:
    """An array with the value of a torch tensor, a NumPy array or a Python number (int64, float32 or bool)."""
    import torch

    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, torch.Tensor):
        return _from_tensor(value)
    if isinstance(value, bool):
        return np.array(value)
    if isinstance(value, int):
        return np.array(value, np.int64)
    if isinstance(value, float):
        return np.array(value, np.float32)
    if isinstance(value, np.generic):
        return np.asarray(value)
    raise TypeError(f"{type(value).__name__} is no tensor, array or number")


def _from_tensor(tensor: torch.Tensor) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    tensor = tensor.resolve_neg().contiguous()
    borrowed = _BORROWED.get(str(tensor.dtype).removeprefix("torch."))
    if borrowed is None:
        return tensor.numpy()
    bits, scalar = borrowed
    return tensor.view(getattr(torch, bits)).numpy().view(scalar)


def to_torch(array: Array) -> torch.Tensor:
    """A tensor over the memory of `array` (over a copy where torch could not own it: read-only or negative strides)."""
    import torch

    array = np.require(array, requirements=["C", "W"])
    borrowed = _BORROWED_BACK.get(array.dtype)
    if borrowed is None:
        return torch.from_numpy(array)
    name, bits = borrowed
    return torch.from_numpy(array.view(bits)).view(getattr(torch, name))
