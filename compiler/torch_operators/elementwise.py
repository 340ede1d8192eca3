"""Arithmetic, comparison and logic, element by element with broadcasting."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}

# those that torch also has for a tensor and a number, and those of them whose operands may change places
_COMMUTATIVE = ("Add", "Equal", "Mul")
_TAKES_NUMBER = (*_COMMUTATIVE, "Sub", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

_VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}


@operator(*_UNARY, pointwise=True, widens=True)
def unary(op: Operation, x: Tensor) -> Tensor:
    """One torch function of one tensor."""
    return _UNARY[op.node.op_type](x)


@operator(*_BINARY, pointwise=True, widens=True)
def binary(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """One torch function of two tensors, or of a tensor and a number."""
    name, function = op.node.op_type, _BINARY[op.node.op_type]
    if name in _TAKES_NUMBER:
        first, second = op.scalar(0), op.scalar(1)
        if second is not None:
            return op.call(function, a, second)
        if first is not None and name in _COMMUTATIVE:
            return op.call(function, b, first)
    return function(a, aligned(op, a, b))


@operator(*_VARIADIC, pointwise=True, widens=True)
def variadic(op: Operation, *tensors: Tensor) -> Tensor:
    """One torch function folded over any number of tensors."""
    return functools.reduce(_VARIADIC[op.node.op_type], tensors)


@operator("Mean", pointwise=True)
def mean(op: Operation, *tensors: Tensor) -> Tensor:
    """The elementwise mean of tensors."""
    return torch.div(functools.reduce(torch.add, tensors), len(tensors))


@operator("Div", pointwise=True, widens=True)
def div(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Division; that of integers rounds towards zero."""
    b = aligned(op, a, b)
    floating, divisor = op.floating(0), op.scalar(1)
    if floating and divisor is not None:
        return torch.div(a, divisor)
    if floating is None:
        return op.call(divided, a, b)
    return torch.div(a, b) if floating else torch.div(a, b, rounding_mode="trunc")


@operator("Mod", pointwise=True, widens=True)
def mod(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Remainder with the sign of the divisor, or of the dividend when `fmod` is set."""
    return torch.fmod(a, b) if op.attribute("fmod", 0) else torch.remainder(a, b)


@operator("Pow", pointwise=True, widens=True)
def power(op: Operation, base: Tensor, exponent: Tensor) -> Tensor:
    """Power, in the base's type."""
    same = op.dtype(0) is not None and op.dtype(0) == op.dtype(1)
    number = op.scalar(1)
    if op.floating(0) and number is not None:
        return torch.pow(base, number)  # a number keeps the gradient free of log(base)
    result = torch.pow(base, aligned(op, base, exponent))
    return result if same else result.to(base.dtype)


@operator("Clip", pointwise=True, widens=True)
def clip(op: Operation, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Limits, as numbers where they are known now."""
    if op.version < 11:
        return torch.clamp(x, op.attribute("min", -3.4028234663852886e38), op.attribute("max", 3.4028234663852886e38))
    if low is None and high is None:
        return x
    numbers = [op.number(1), op.number(2)]
    if (low is None or numbers[0] is not None) and (high is None or numbers[1] is not None):
        return torch.clamp(x, *numbers)
    return torch.clamp(x, low, high)


@operator("BitShift", pointwise=True, widens=True)
def bit_shift(op: Operation, x: Tensor, by: Tensor) -> Tensor:
    """Shift left or right."""
    left = op.required("direction") == "LEFT"
    return torch.bitwise_left_shift(x, by) if left else torch.bitwise_right_shift(x, by)


@operator("Where", pointwise=True, widens=True)
def where(op: Operation, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Choice by a condition."""
    first, second = op.scalar(1), op.scalar(2)
    if second is not None and first is None:
        return torch.where(condition, x, second)
    if first is not None and second is None:
        return torch.where(condition, first, y)
    return torch.where(condition, x, y)


@operator("IsNaN", pointwise=True)
def is_nan(op: Operation, x: Tensor) -> Tensor:
    """Whether elements are not numbers."""
    return torch.isnan(x)


@operator("IsInf", pointwise=True)
def is_inf(op: Operation, x: Tensor) -> Tensor:
    """Whether elements are infinite, of the signs asked for."""
    negative, positive = bool(op.attribute("detect_negative", 1)), bool(op.attribute("detect_positive", 1))
    if negative and positive:
        return torch.isinf(x)
    if not negative and not positive:
        return torch.zeros_like(x, dtype=torch.bool)
    return torch.isposinf(x) if positive else torch.isneginf(x)


def aligned(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """`b` with trailing dimensions of 1, where the broadcasting of opset < 7 asks for them."""
    if op.version >= 7 or "axis" not in op.node.attributes or not op.attribute("broadcast", 0):
        return b
    return op.call(aligned_at, a, b, int(op.required("axis")))


def aligned_at(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """`b` shaped so that its first dimension meets dimension `axis` of `a`."""
    axis = axis + a.dim() if axis < 0 else axis
    return b.reshape(*b.shape, *[1] * (a.dim() - axis - b.dim()))


def divided(a: Tensor, b: Tensor) -> Tensor:
    """ONNX division of tensors whose type is known only when the program runs."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")
