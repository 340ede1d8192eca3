"""Element types: how a value lies in a buffer, and what a shader computes with.

Half precision is stored as such and computed in single: what is computed on the way to a buffer is not rounded to it,
but for operands and short sums of products that a tuner found to be faster in half (kernels/runs.py).
Integers have 32 bits in a shader; what does not fit is refused where it is uploaded, and narrow ones wrap around in
their own width. Booleans lie as u32. Constants of 4 and 8 bits lie packed in words, the first in the lowest bits.
"""

from __future__ import annotations

import struct

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array

_D = ir.DataType
FLOATS = (_D.FLOAT, _D.FLOAT16, _D.BFLOAT16)
SIGNED = (_D.INT4, _D.INT8, _D.INT16, _D.INT32, _D.INT64)
UNSIGNED = (_D.UINT4, _D.UINT8, _D.UINT16, _D.UINT32, _D.UINT64)
PACKED = {_D.INT4: 8, _D.UINT4: 8, _D.INT8: 4, _D.UINT8: 4}  # constants of these types lie several to a word
BYTES = {"f32": 4, "f16": 2, "i32": 4, "u32": 4}
NUMPY = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "u32": np.uint32}
# What any number is at least and at most, by type: where maxima and minima start.
LEAST: dict[str, float | bool] = {"f32": -np.inf, "i32": -(2**31), "u32": 0, "bool": False}
MOST: dict[str, float | bool] = {"f32": np.inf, "i32": 2**31 - 1, "u32": 2**32 - 1, "bool": True}
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


def transfers(dtype: ir.DataType | None) -> bool:
    """Whether a model's inputs and outputs may be of a type."""
    return computed(dtype) is not None and dtype not in (_D.INT4, _D.UINT4)


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


_NARROW = {
    _D.INT4: (4, True), _D.INT8: (8, True), _D.INT16: (16, True),
    _D.UINT4: (4, False), _D.UINT8: (8, False), _D.UINT16: (16, False),
}  # fmt: skip


def width(dtype: ir.DataType | None) -> int:
    """Bits of an integer as the model has it, as far as a shader tells them apart."""
    return _NARROW.get(dtype, (32, True))[0] if dtype is not None else 32


def wrapped(text: str, dtype: ir.DataType | None) -> str:
    """What is left of an integer in its own width: shaders have 32 bits for all."""
    if dtype is None or dtype not in _NARROW:
        return text
    bits, signed = _NARROW[dtype]
    if signed:  # the sign is that of the last bit kept
        return f"(({text} << {32 - bits}u) >> {32 - bits}u)"
    return f"({text} & {(1 << bits) - 1}u)"


def literal(value: float | bool, kind: str) -> str:
    """A number in a shader.

    Raises:
        OverflowError: an integer needs more than 32 bits.
    """
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("i32", "u32"):
        return _integer(int(value), kind)
    single = np.float32(value)
    if not np.isfinite(single):  # no constant expression may be one
        return f"from_bits(0x{struct.unpack('<I', struct.pack('<f', float(single)))[0]:08x}u)"
    text = repr(float(single))
    return f"{text}f" if single >= 0 and not text.startswith("-") else f"({text}f)"


def _integer(number: int, kind: str) -> str:
    low, high = (0, 2**32 - 1) if kind == "u32" else (-(2**31), 2**31 - 1)
    if not low <= number <= high:
        raise OverflowError(f"{number} needs more than 32 bits")
    if kind == "u32":
        return f"{number}u"
    return f"{number}i" if number >= 0 else f"(-{-number}i)" if number > -(2**31) else "(-2147483647i - 1i)"


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


def as_packed(array: Array, per_word: int) -> Array:
    """Integers of 4 or 8 bits, or numbers of half precision, in words of 32, the first in the lowest bits."""
    if array.dtype.kind == "f":
        halves = np.ascontiguousarray(array, np.float16).reshape(-1).view(np.uint16)
        return np.pad(halves, (0, -len(halves) % per_word)).view(np.uint32)
    bits = 32 // per_word
    codes = array.astype(np.int32).reshape(-1) & ((1 << bits) - 1)
    codes = np.pad(codes, (0, -len(codes) % per_word)).astype(np.uint32).reshape(-1, per_word)
    return np.bitwise_or.reduce(codes << (np.arange(per_word, dtype=np.uint32) * bits), axis=1)
