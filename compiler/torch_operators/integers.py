"""Arithmetic on shapes: integers known element by element stay Python integers (see `values.Integers`).

Each rule returns `None` where it does not apply; the ordinary rule then works on a tensor.
"""

from __future__ import annotations

import functools
import operator as python
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from .dtypes import torch_dtype
from .indexing import backward
from .operation import Operation, is_recorded
from .registry import integer_operator
from .values import Integers

_INTEGER_TYPES = (ir.DataType.INT64, ir.DataType.INT32)


def divide(a: int, b: int) -> int:
    """Quotient rounded towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a >= 0) == (b > 0) else -quotient


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": python.add,
    "Sub": python.sub,
    "Mul": python.mul,
    "Mod": python.mod,
    "Max": torch.sym_max,
    "Min": torch.sym_min,
    "Equal": python.eq,
    "Greater": python.gt,
    "GreaterOrEqual": python.ge,
    "Less": python.lt,
    "LessOrEqual": python.le,
}
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@integer_operator(*_BINARY, "Div")
def binary(op: Operation) -> Integers | None:
    """Pairwise arithmetic, a scalar or single element broadcasting."""
    operands = [op.integers(index) for index in range(len(op.values))]
    if any(operand is None for operand in operands) or op.attribute("fmod", 0):
        return None
    known = [operand for operand in operands if operand is not None]
    return functools.reduce(functools.partial(paired, op), known)


@integer_operator("Identity")
def identity(op: Operation) -> Integers | None:
    """The same integers."""
    return op.integers(0)


@integer_operator("Shape")
def shape(op: Operation) -> Integers | None:
    """The length of a vector."""
    x = op.integers(0)
    if x is None or "start" in op.node.attributes or "end" in op.node.attributes:
        return None
    return Integers([] if x.scalar else [len(x.items)])


@integer_operator("Neg")
def negative(op: Operation) -> Integers | None:
    """Changed signs."""
    x = op.integers(0)
    return None if x is None else Integers([-item for item in x.items], x.scalar, x.dtype)


@integer_operator("Cast")
def cast(op: Operation) -> Integers | None:
    """Another width; to floats the ordinary rule applies, which rounds as float32 does."""
    x, to = op.integers(0), ir.DataType(op.required("to"))
    if x is None or to not in _INTEGER_TYPES or x.dtype == torch.bool:
        return None
    return Integers(x.items, x.scalar, torch_dtype(to))


@integer_operator("Gather")
def gather(op: Operation) -> Integers | None:
    """Elements at known positions."""
    x, where = op.integers(0), op.integers(1)
    if x is None or where is None or x.scalar or not where.known:
        return None
    return Integers([x.items[index] for index in where.items], where.scalar, x.dtype)


@integer_operator("Concat")
def concat(op: Operation) -> Integers | None:
    """One vector of several."""
    parts = [op.integers(index) for index in range(len(op.values))]
    known = [part for part in parts if part is not None and not part.scalar]
    if len(known) != len(parts):
        return None
    return Integers([item for part in known for item in part.items], dtype=known[0].dtype)


@integer_operator("Unsqueeze")
def unsqueeze(op: Operation) -> Integers | None:
    """A vector of one element from a scalar."""
    x = op.integers(0)
    axes = op.fixed(1) if len(op.values) > 1 else op.numbers("axes")
    if x is None or not x.scalar or axes is None or len(axes) != 1:
        return None
    return Integers(x.items, dtype=x.dtype)


@integer_operator("Squeeze")
def squeeze(op: Operation) -> Integers | None:
    """A scalar from a vector of one element."""
    x = op.integers(0)
    if x is None or len(x.items) != 1:
        return None
    return Integers(x.items, scalar=True, dtype=x.dtype)


@integer_operator("Reshape")
def reshape(op: Operation) -> Integers | None:
    """A vector from a scalar or vector."""
    x = op.integers(0)
    shape = op.fixed(1) if len(op.values) > 1 else op.numbers("shape")
    if x is None or shape is None or len(shape) > 1 or (shape and shape[0] not in (-1, len(x.items))):
        return None
    return Integers(x.items, scalar=not shape, dtype=x.dtype)


@integer_operator("Slice")
def slice_(op: Operation) -> Integers | None:
    """A range of a vector."""
    x = op.integers(0)
    if len(op.values) == 1:
        starts, ends, steps = op.numbers("starts"), op.numbers("ends"), [1]
    else:
        starts, ends, steps = op.fixed(1), op.fixed(2), [1] if omitted(op, 4) else op.fixed(4)
    if x is None or x.scalar or not starts or not ends or not steps:
        return None
    if steps[0] > 0:
        return Integers(x.items[starts[0] : ends[0] : steps[0]], dtype=x.dtype)
    return Integers([x.items[index] for index in backward(starts[0], ends[0], steps[0], len(x.items))], dtype=x.dtype)


@integer_operator("Where")
def where(op: Operation) -> Integers | None:
    """Choice between integers by booleans."""
    condition, a, b = (op.integers(index) for index in range(3))
    if condition is None or a is None or b is None:
        return None
    count = max(len(condition.items), len(a.items), len(b.items))
    rows = [broadcast(part, count) for part in (condition, a, b)]
    items = [chosen(op, *row) for row in zip(*rows, strict=True)]
    return Integers(items, condition.scalar and a.scalar and b.scalar, a.dtype)


@integer_operator("ReduceProd", "ReduceSum")
def reduce(op: Operation) -> Integers | None:
    """Product or sum of a whole vector."""
    x = op.integers(0)
    if x is None or x.scalar or op.attribute("noop_with_empty_axes", 0):
        return None
    combine = python.mul if op.node.op_type == "ReduceProd" else python.add
    total = functools.reduce(lambda a, b: op.call(combine, a, b), x.items, int(op.node.op_type == "ReduceProd"))
    return Integers([total], not op.attribute("keepdims", 1), x.dtype)


def paired(op: Operation, a: Integers, b: Integers) -> Integers:
    """A binary operator on two vectors or scalars."""
    name = op.node.op_type
    function = divide if name == "Div" else _BINARY[name]
    count = 0 if 0 in (len(a.items), len(b.items)) else max(len(a.items), len(b.items))
    pairs = zip(broadcast(a, count), broadcast(b, count), strict=True)
    items = [combined(op, function, x, y) for x, y in pairs]
    return Integers(items, a.scalar and b.scalar, torch.bool if name in _COMPARISONS else a.dtype)


def combined(op: Operation, function: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    """The result as a number where both are, else as a node; without work for 1·x, x + 0 and x / 1."""
    if not is_recorded(x) and not is_recorded(y):
        return function(x, y)
    if function is python.mul and (x == 1 if not is_recorded(x) else not is_recorded(y) and y == 1):
        return y if not is_recorded(x) else x
    return op.call(function, x, y)


def chosen(op: Operation, condition: Any, a: Any, b: Any) -> Any:
    """One of two integers."""
    if not is_recorded(condition):
        return a if condition else b
    return op.call(selected, condition, a, b)


def selected(condition: bool, a: int, b: int) -> int:
    """One of two integers, chosen when the program runs."""
    return a if condition else b


def broadcast(x: Integers, count: int) -> list[Any]:
    """`count` items, a single one repeated."""
    return x.items * count if len(x.items) == 1 else x.items[:count]


def omitted(op: Operation, index: int) -> bool:
    """Whether input `index` is omitted."""
    return index >= len(op.values) or op.values[index] is None
