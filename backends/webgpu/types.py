"""Element types: how a value lies in a buffer, and what a shader computes with.

Half precision is stored as such and computed in single; integers have 32 bits in a shader, and what does not fit is
refused where it is uploaded. Booleans lie as u32.
"""

from __future__ import annotations

import struct

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array

_D = ir.DataType
FLOATS = (_D.FLOAT, _D.FLOAT16, _D.BFLOAT16)
SIGNED = (_D.INT8, _D.INT16, _D.INT32, _D.INT64)
UNSIGNED = (_D.UINT8, _D.UINT16, _D.UINT32, _D.UINT64)
BYTES = {"f32": 4, "f16": 2, "i32": 4, "u32": 4}
NUMPY = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "u32": np.uint32}
LOWEST = "-3.4028234663852886e38f"
HIGHEST = "3.4028234663852886e38f"


def computed(dtype: ir.DataType | None) -> str | None:
    """The WGSL type of an element in a shader; None for what shaders have no type for."""
    if dtype in FLOATS:
        return "f32"
    if dtype in SIGNED:
        return "i32"
    if dtype in UNSIGNED:
        return "u32"
    return "bool" if dtype == _D.BOOL else None


def stored(dtype: ir.DataType | None, *, half: bool) -> str:
    """How an element lies in a buffer: f32, f16, i32 or u32.

    Args:
        dtype: one that `computed` knows.
        half: whether the device has f16.
    """
    kind = computed(dtype)
    assert kind is not None
    if kind == "bool":
        return "u32"
    return "f16" if dtype == _D.FLOAT16 and half else kind


def loaded(text: str, kind: str, lies: str) -> str:
    """An element as a shader computes with it, from how it lies."""
    if kind == "bool":
        return f"({text} != 0u)"
    return f"f32({text})" if lies == "f16" else text


def kept(text: str, kind: str, lies: str) -> str:
    """An element as it lies, from how a shader computes with it."""
    if kind == "bool":
        return f"select(0u, 1u, {text})"
    return f"f16({text})" if lies == "f16" else text


def literal(value: float | bool, kind: str) -> str:
    """A number in a shader."""
    if kind == "bool":
        return "true" if value else "false"
    if kind == "u32":
        return f"{int(value)}u"
    if kind == "i32":
        number = int(value)
        return f"{number}i" if number >= 0 else f"(-{-number}i)" if number > -(2**31) else "(-2147483647i - 1i)"
    single = np.float32(value)
    if not np.isfinite(single):  # no constant expression may be one
        return f"from_bits(0x{struct.unpack('<I', struct.pack('<f', float(single)))[0]:08x}u)"
    text = repr(float(single))
    return f"{text}f" if single >= 0 and not text.startswith("-") else f"({text}f)"


def as_stored(array: Array, lies: str) -> Array:
    """An array as it lies in a buffer.

    Raises:
        OverflowError: an integer needs more than 32 bits.
    """
    if array.dtype.kind in "iu" and array.size and lies in ("i32", "u32"):
        low, high = (-(2**31), 2**31 - 1) if lies == "i32" else (0, 2**32 - 1)
        if int(array.min()) < low or int(array.max()) > high:
            raise OverflowError(f"{array.dtype} values beyond 32 bits")
    return np.ascontiguousarray(array.astype(NUMPY[lies]))
