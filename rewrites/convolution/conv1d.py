"""One-dimensional convolution and pooling as two-dimensional ones of height one.

ONNX Runtime's blocked convolutions are two-dimensional only: a chain of Conv1d and
Relu runs 1.1 to 1.3 times faster so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float

x, w, b, a = var("x w b a")

CONV = {"x": "f32[2,4,9]", "w": "f32[6,2,3] const", "b": "f32[6] const", "a": {"group": 2, "pads": (1, 0)}}
POOL = {"x": "f32[2,4,9]", "a": {"kernel_shape": (3,), "strides": (2,), "pads": (1, 0)}}


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with an axis of height one before their own."""
    found = dict(attributes)
    for name in ("kernel_shape", "strides", "dilations"):
        if name in found:
            found[name] = (1, *found[name])
    if "pads" in found:
        begin, end = found["pads"]
        found["pads"] = (0, begin, 0, end)
    return found


def _require_line(x: Value) -> None:
    if x.rank != 3:
        raise Skip("the input is not one-dimensional")


def _lifted(x: Value) -> Term:
    return op.Unsqueeze(x, ints(2))


@rule(
    op.Conv(x, w, attributes=a),
    op.Conv(x, w, b, attributes=a),
    drift="rounding",
    example=[
        CONV,
        {**CONV, "x": "f32[N,4,9]", "a": {"group": 2, "strides": (2,), "dilations": (2,), "kernel_shape": (3,)}},
        {**CONV, "a": {"group": 2, "auto_pad": "SAME_UPPER"}},
    ],
    refuse=[
        {"x": "f32[1,2,5,5]", "w": "f32[3,2,3,3] const", "b": "f32[3] const", "a": {}, "because": "one-dimensional"},
        {**CONV, "w": "f32[6,2,3]", "because": "computed"},
    ],
)
def conv1d_as_conv2d(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """Conv1d(x, w, b) = Conv2d(x, w, b) with an axis of size one before the last."""
    _require_line(x)
    require_constant(w, "the weight")
    return op.Squeeze(op.Conv(_lifted(x), op.Unsqueeze(w, ints(2)), b, **_flat(a)), ints(2))


@rule(
    op.Conv(x, w, attributes=a),
    op.Conv(x, w, b, attributes=a),
    drift="rounding",
    example=[
        {"x": "f32[2,5,1,9]", "w": "f32[6,5,1,3] const", "b": "f32[6] const", "a": {"pads": (0, 1, 0, 1)}},
        {"x": "f32[N,6,1,L]", "w": "f32[6,6,1,1] const", "b": "f32[6]", "a": {}},
    ],
    refuse=[
        {"x": "f32[2,8,1,9]", "w": "f32[6,8,1,3] const", "b": "f32[6] const", "a": {}, "because": "blocks already"},
        {"x": "f32[2,5,9,9]", "w": "f32[6,5,1,3] const", "b": "f32[6] const", "a": {}, "because": "one row"},
        {"x": "f32[2,3,1,9]", "w": "f32[6,3,1,3] const", "b": "f32[6] const", "a": {}, "because": "few"},
    ],
)
def pad_channels_to_blocks(x: Value, w: Value, b: Value | None, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, b) = Conv(x with channels of zeros, w with columns of zeros, b), to a multiple of four channels.

    The blocked convolutions take no other number. On spectrograms with their odd number of bins the copy pays (1.04
    to 1.9 times faster on one row; on pictures it measures 0.5 to 0.9 and is not offered).
    """
    require_float(x)
    require_constant(w, "the weight")
    channels = w.static_shape[1]
    if x.rank != 4 or x.shape[2] != 1 or int(a.get("group", 1)) != 1:
        raise Skip("the input is not one row of one group")
    if channels < 4:
        raise Skip("the channels are few enough for a kernel of their own")
    missing = -channels % 4
    if not missing:
        raise Skip("the channels come in blocks already")
    more = ints(0, 0, 0, 0, 0, missing, 0, 0)
    return op.Conv(op.Pad(x, more), op.Pad(w, more), b, **a)


@rule(
    op.MaxPool(x, attributes=a),
    drift="rounding",  # which of NaN and a number is the larger depends on the kernel
    example=[POOL, {"x": "f16[N,4,9]", "a": {"kernel_shape": (2,), "auto_pad": "SAME_UPPER"}}],
    refuse={"x": "f32[1,2,5,5]", "a": {"kernel_shape": (3, 3)}, "because": "one-dimensional"},
)
def max_pool1d_as_max_pool2d(x: Value, a: Mapping[str, Any]) -> Term:
    """MaxPool1d(x) = MaxPool2d(x) with an axis of size one before the last."""
    _require_line(x)
    return op.Squeeze(op.MaxPool(_lifted(x), **_flat(a)), ints(2))


@rule(
    op.AveragePool(x, attributes=a),
    drift="rounding",
    example=[
        POOL,
        {"x": "f32[N,4,9]", "a": {"kernel_shape": (3,), "pads": (1, 1), "count_include_pad": 1, "ceil_mode": 1}},
    ],
    refuse={"x": "f32[1,2,5,5]", "a": {"kernel_shape": (3, 3)}, "because": "one-dimensional"},
)
def average_pool1d_as_average_pool2d(x: Value, a: Mapping[str, Any]) -> Term:
    """AveragePool1d(x) = AveragePool2d(x) with an axis of size one before the last."""
    _require_line(x)
    return op.Squeeze(op.AveragePool(_lifted(x), **_flat(a)), ints(2))
