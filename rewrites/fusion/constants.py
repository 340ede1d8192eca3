"""Constants as rules read and write them: one number in the dtype of the values around it."""

from __future__ import annotations

from math import isclose

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Skip, Value

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def require_float(x: Value) -> None:
    """Refuse what is not a tensor of floating-point numbers.

    Raises:
        Skip: it is not.
    """
    if x.dtype not in FLOATS:
        raise Skip("the operand is not of a floating-point type")


def require_single(x: Value) -> None:
    """Refuse what is not at most float32: operators that stash in float32 would lose digits of a float64.

    Raises:
        Skip: it is wider, or not of a floating-point type.
    """
    if x.dtype not in (ir.DataType.FLOAT, *HALVES):
        raise Skip("the operand is not of float32 or half precision")


def is_close(found: float, wanted: float, like: Value) -> bool:
    """Whether a number is another one as far as the dtype of the values around it can tell."""
    tolerance = {ir.DataType.FLOAT16: 1e-3, ir.DataType.BFLOAT16: 8e-3}.get(ir.DataType(like.dtype or 1), 1e-6)
    return isclose(found, wanted, rel_tol=tolerance, abs_tol=0.0)


def array_of(number: float, like: Value, shape: tuple[int, ...] = ()) -> Array:
    """A constant with one number everywhere, in the dtype of another value."""
    return np.full(shape, number, ir.DataType(like.dtype or ir.DataType.FLOAT).numpy())


def require_shape(root: Value, x: Value) -> None:
    """Refuse where constants broadcast the operand to another shape: a unary operator cannot.

    Raises:
        Skip: they do.
    """
    if root.shape != x.shape:
        raise Skip("a constant broadcasts the operand to another shape")
