"""Where the elements of an operand lie, when nothing but movement stands between it and a buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.ir import constant_array
from ..expression import shape_of

PASSES = ("Identity", "Dropout")
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class View:
    """Element i… of an operand is element offset + Σ strides·i of what lies in a value's buffer."""

    value: ir.Value
    offset: int
    strides: tuple[int, ...]


def view_of(value: ir.Value, inlined: Mapping[ir.Value, ir.Node]) -> View | None:
    """The view that an operand is; None where its elements are computed, or lie in no even distances.

    Args:
        value: the operand.
        inlined: the node that computes each value that lies in no buffer.
    """
    chain: list[ir.Node] = []
    while value in inlined:
        chain.append(inlined[value])
        first = chain[-1].inputs[0]
        if first is None or (len(chain[-1].outputs) > 1 and chain[-1].op_type != "Split"):
            return None
        value = first
    shape = shape_of(value)
    if prod(shape) <= 1:
        return None
    # numpy says what becomes of strides: an array of bytes that takes no memory, however large.
    steps = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    start = np.zeros(1, np.int8)
    found: Array | None = np.lib.stride_tricks.as_strided(start, shape, steps)
    for node in reversed(chain):
        found = _moved(node, found)
        if found is None:
            return None
    offset = found.__array_interface__["data"][0] - start.__array_interface__["data"][0]
    return View(value, offset, found.strides)


def _moved(node: ir.Node, array: Array) -> Array | None:
    shape = shape_of(node.outputs[0])
    if node.op_type in PASSES:
        return array
    if node.op_type in RESHAPES:
        return _reshaped(array, shape)
    if node.op_type == "Transpose":
        found = node.attributes.get("perm")
        return array.transpose(None if found is None else list(found.as_ints()))
    if node.op_type == "Expand":
        return np.broadcast_to(array, shape)
    return _sliced(node, array) if node.op_type == "Slice" else None


def _reshaped(array: Array, shape: Sequence[int]) -> Array | None:
    try:
        return array.reshape(tuple(shape), copy=False)
    except ValueError:
        return None


def _sliced(node: ir.Node, array: Array) -> Array | None:
    values = [node.inputs[i] if i < len(node.inputs) else None for i in range(5)]
    known = [None if v is None else constant_array(v, 64) for v in values[1:]]
    starts, ends, axes, steps = known
    unknown = any(v is not None and k is None for v, k in zip(values[1:], known, strict=True))
    if starts is None or ends is None or unknown:
        return None
    parts = [slice(None)] * array.ndim
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = 1 if steps is None else int(steps[number])
        if step < 1:
            return None
        parts[int(axes[number]) if axes is not None else number] = slice(start, end, step)
    return array[tuple(parts)]
