"""Operators that tell of shapes, or make tensors of given shapes."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto

from .call import Call, Known, Rule


def _shape(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(TensorProto.INT64, (None,))]
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(shape))
    return [(TensorProto.INT64, (len(shape[start:end]),))]


def _size(_: Call) -> list[Known]:
    return [(TensorProto.INT64, ())]


def _constant(call: Call) -> list[Known]:
    for name, value in call.attributes.items():
        match name:
            case "value":
                return [_of_tensor(value)]
            case "value_int":
                return [(TensorProto.INT64, ())]
            case "value_ints":
                return [(TensorProto.INT64, (len(value),))]
            case "value_float":
                return [(TensorProto.FLOAT, ())]
            case "value_floats":
                return [(TensorProto.FLOAT, (len(value),))]
            case "value_string":
                return [(TensorProto.STRING, ())]
            case "value_strings":
                return [(TensorProto.STRING, (len(value),))]
            case _:
                continue
    return [(None, None)]


def _of_tensor(value: Any) -> Known:
    if isinstance(value, np.ndarray):
        return int(ir.DataType.from_numpy(value.dtype)), tuple(value.shape)
    return int(value.dtype), tuple(value.shape.numpy())


def _constant_of_shape(call: Call) -> list[Known]:
    value = call.attributes.get("value")
    dtype = TensorProto.FLOAT if value is None else _of_tensor(value)[0]
    wanted = call.entries(0)
    if wanted is not None:
        return [(dtype, tuple(d if isinstance(d, (int, str)) else None for d in wanted))]
    length = call.shape(0)
    if length is None or len(length) != 1 or not isinstance(length[0], int):
        return [(dtype, None)]
    return [(dtype, (None,) * length[0])]


def _range(call: Call) -> list[Known]:
    ends = [call.entries(i) for i in range(3)]
    if any(e is None or len(e) != 1 for e in ends):
        return [(call.dtype(), (None,))]
    start, limit, delta = (e[0] for e in ends if e)
    numbers = [n for n in (start, limit, delta) if isinstance(n, (int, float))]
    if len(numbers) == 3 and delta:
        return [(call.dtype(), (max(ceil((numbers[1] - numbers[0]) / numbers[2]), 0),))]
    # range(0, n, 1) has n entries.
    return [(call.dtype(), (limit if start == 0 and delta == 1 and isinstance(limit, str) else None,))]


def _one_hot(call: Call) -> list[Known]:
    shape, depth = call.shape(0), call.entries(1)
    if shape is None:
        return [(call.dtype(2), None)]
    axis = int(call.get("axis")) % (len(shape) + 1)
    count = depth[0] if depth and isinstance(depth[0], (int, str)) else None
    return [(call.dtype(2), (*shape[:axis], count, *shape[axis:]))]


def _non_zero(call: Call) -> list[Known]:
    shape = call.shape()
    return [(TensorProto.INT64, (None if shape is None else len(shape), None))]


def _eye_like(call: Call) -> list[Known]:
    return [(call.attributes.get("dtype") or call.dtype(), call.shape())]


RULES: dict[str, Rule] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Range": _range,
    "Shape": _shape,
    "Size": _size,
}
