"""What the rules of linear operators ask of constants, and how they write new ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.egraph import ABSENT
from ...compiler.facts import Array, Dim
from ...compiler.rule import Skip, Term, Value, op

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def ints(*numbers: int) -> Array:
    """A vector of integers: a shape, a list of axes."""
    return np.asarray(numbers, dtype=np.int64)


def full(number: float, shape: tuple[int, ...], like: Value) -> Array:
    """One number everywhere, in the dtype of another value."""
    return np.full(shape, number, ir.DataType(like.dtype or ir.DataType.FLOAT).numpy())


def given(operand: Value | None) -> Value | None:
    """An optional operand, None where it is left out."""
    return None if operand is None or operand.uid == ABSENT else operand


def require_float(x: Value) -> None:
    """Refuse integers, for which quotients and sums over many terms are other functions.

    Raises:
        Skip: the value is not known to hold floating-point numbers.
    """
    if x.dtype not in FLOATS:
        raise Skip("the operands are not floating-point numbers")


def require_convolved(x: Value) -> None:
    """Refuse what convolutions and pooling have no kernels for in the runtimes, where other operators have.

    Raises:
        Skip: the value is not known to be of single or half precision.
    """
    if x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        raise Skip("convolutions and pooling are of single or half precision")


def require_constant(value: Value, what: str) -> None:
    """Refuse what is computed: a product of weights is free only when it is made ahead of time.

    Raises:
        Skip: the value is not a constant.
    """
    if not value.is_const:
        raise Skip(f"{what} is computed")


def require_same_type(*values: Value) -> None:
    """Refuse operands of different dtypes, as BatchNormalization's statistics may be.

    Raises:
        Skip: the dtypes differ.
    """
    if len({value.dtype for value in values}) > 1:
        raise Skip("the operands differ in dtype")


def require_factor(factor: Value) -> None:
    """Refuse factors that cannot be moved across a sum: ∞·(a + b) may differ from ∞·a + ∞·b.

    Raises:
        Skip: the value is computed, or holds infinities or NaN.
    """
    require_constant(factor, "the factor")
    if not factor.every(lambda array: bool(np.all(np.isfinite(array)))):
        raise Skip("the factor is not finite")


def require_divisor(divisor: Value) -> None:
    """Refuse divisors that cannot be moved across a sum.

    Raises:
        Skip: the value is computed, or holds zeros, infinities or NaN.
    """
    require_factor(divisor)
    if not divisor.every(lambda array: bool(np.all(array != 0))):
        raise Skip("the divisor holds zeros")


def along(constant: Value, axis: int, dims: tuple[Dim, ...]) -> Term:
    """A constant that varies along one axis of its partner at most, as a vector of that axis' length.

    Args:
        constant: broadcasts to `dims` without making them larger.
        axis: of `dims`, from 0; its size must be a number.
        dims: the partner's shape.

    Raises:
        Skip: it is computed, varies along other axes, or makes its partner larger.
    """
    require_constant(constant, "the other operand")
    shape, size = constant.static_shape, dims[axis]
    if not isinstance(size, int):
        raise Skip("the size of the axis is not known")
    if len(shape) > len(dims):
        raise Skip("the constant adds a dimension")
    aligned = (1,) * (len(dims) - len(shape)) + shape
    if any(d != 1 for position, d in enumerate(aligned) if position != axis):
        raise Skip("the constant varies along another axis")
    if aligned[axis] not in (1, size):
        raise Skip("the constant makes its partner larger")
    vector = constant if len(shape) == 1 else op.Reshape(constant, ints(-1))
    return vector if aligned[axis] == size else op.Expand(vector, ints(size))


def same_dims(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> bool:
    """Whether two shapes are surely equal: unknown dimensions equal nothing."""
    return len(a) == len(b) and all(p == q and p is not None for p, q in zip(a, b, strict=True))


def shape_operand(dims: tuple[Dim, ...]) -> Array:
    """A shape as Reshape takes it, -1 for the one dimension that may be unknown.

    Raises:
        Skip: more are, or the result is empty.
    """
    if sum(not isinstance(d, int) for d in dims) > 1:
        raise Skip("more than one dimension is not known")
    if 0 in dims:
        raise Skip("the operand is empty")
    return ints(*(d if isinstance(d, int) else -1 for d in dims))
