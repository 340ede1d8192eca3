"""What a rule must know of an operand's shape, type and range before it may drop or merge it."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Value
from ..shape.dimensions import broadcast, same_shape

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def is_float(x: Value) -> bool:
    """Whether the elements are floating-point numbers of 16 bits or more."""
    return x.dtype in FLOATS


def require_float(x: Value) -> None:
    """Raise Skip unless the elements are floating-point numbers."""
    if not is_float(x):
        raise Skip("the elements are no floating-point numbers")


def keeps_shape(x: Value, other: Value) -> None:
    """Raise Skip unless x stays as it is when broadcast against the other operand."""
    single = other.rank <= x.rank and all(d == 1 for d in other.shape)
    if not single and not same_shape(broadcast(x.shape, other.shape), x.shape):
        raise Skip("the constant broadcasts its operand to another shape")


def require_every(c: Value, predicate: Callable[[Array], bool], reason: str) -> None:
    """Raise Skip unless a constant satisfies the predicate in every instance of the block."""
    if not c.is_const:
        raise Skip("an operand is not a constant")
    if not c.every(predicate):
        raise Skip(reason)


def require_moderate(*constants: Value) -> None:
    """Raise Skip unless products and quotients of two such constants neither overflow nor underflow."""
    for c in constants:
        require_every(c, _moderate, "a constant is zero, not finite, or too large or small to be combined with another")


def _moderate(array: Array) -> bool:
    # A product of two stays within the format's exponents when each uses less than half of them.
    limits = ml_dtypes.finfo(array.dtype)
    magnitude = np.abs(array.astype(np.float64))
    low, high = float(limits.tiny) ** 0.5, float(limits.max) ** 0.5
    return bool(np.all((magnitude >= low) & (magnitude <= high)))


def require_finite(*constants: Value) -> None:
    """Raise Skip unless sums of two such constants do not overflow."""
    for c in constants:
        require_every(c, _finite, "a constant is not finite, or so large that a sum could overflow")


def _finite(array: Array) -> bool:
    if array.dtype.kind in "iu":
        return True
    return bool(np.all(np.abs(array.astype(np.float64)) <= float(ml_dtypes.finfo(array.dtype).max) / 4))


def require_no_growth(a: Value, b: Value) -> None:
    """Raise Skip if two constants combined would be larger than either, such as a column with a row."""
    both = broadcast(a.shape, b.shape)
    if not same_shape(both, a.shape) and not same_shape(both, b.shape):
        raise Skip("the constants combined would be larger than either")
