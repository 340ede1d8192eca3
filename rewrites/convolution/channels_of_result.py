"""Channels of a convolution's result that are taken, or added up, are taken or added up among its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import ints, require_constant, require_float
from .weights import output_channels

x, w, b, a, begin, end, axes, steps, sizes, axis, keepdims, i, n = var(
    "x w b a begin end axes steps sizes axis keepdims i n"
)

CONV = {"x": "f32[2,4,5,6]", "w": "f32[6,4,3,3] const", "b": "f32[6] const", "a": {"pads": (1, 1, 1, 1)}}
SLICE = {**CONV, "begin": "i64[1] = 1", "end": "i64[1] = 4", "axes": "i64[1] = 1", "steps": "i64[1] = 2"}
SPLIT = {**CONV, "sizes": "i64[2] = 2 4", "axis": 1, "n": None, "i": 0}
conv = op.Conv(x, w, attributes=a)
conv_bias = op.Conv(x, w, b, attributes=a)


def _require_dense(x: Value, w: Value, a: Mapping[str, Any]) -> None:
    require_float(x)
    require_constant(w, "the weight")
    if int(a.get("group", 1)) != 1:
        raise Skip("the convolution has groups")


def _part(w: Value, begin: Term | Array, end: Term | Array, steps: Value | None = None) -> Term:
    return op.Slice(w, begin, end, ints(0), steps)


@rule(
    *(op.Slice(c, begin, end, axes, *last) for c in (conv, conv_bias) for last in ((), (steps,))),
    drift="rounding",
    example=[
        SLICE,
        {**SLICE, "begin": "i64[1] = 1", "end": "i64[1] = -1", "axes": "i64[1] = -3"},
    ],
    refuse=[
        {**SLICE, "axes": "i64[1] = 2", "because": "channels"},
        {**SLICE, "w": "f32[6,2,3,3] const", "a": {"group": 2}, "because": "groups"},
        {**SLICE, "w": "f32[6,4,3,3]", "because": "computed"},
    ],
)
def slice_of_conv(
    x: Value,
    w: Value,
    b: Value | None,
    begin: Value,
    end: Value,
    axes: Value,
    steps: Value | None,
    a: Mapping[str, Any],
) -> Term:
    """Conv(x, w, b)[:, i:j] = Conv(x, w[i:j], b[i:j])."""
    _require_dense(x, w, a)
    if [int(k) % w.rank for k in axes.array.reshape(-1)] != [1]:
        raise Skip("what is taken is not a range of channels")
    require_constant(begin, "the range")
    require_constant(end, "the range")
    bias = None if b is None else _part(b, begin, end, steps)
    return op.Conv(x, _part(w, begin, end, steps), bias, **a)


def _splits() -> list[Any]:
    return [
        op.Split(c, *last, axis=axis, num_outputs=n, outputs=count).out(i)
        for count in (2, 3)
        for c in (conv, conv_bias)
        for last in ((sizes,), ())
    ]


@rule(
    *_splits(),
    drift="rounding",
    example=[
        *({**SPLIT, "i": k, "pattern": p} for p in (0, 2) for k in (0, 1)),
        *({**SPLIT, "n": 2, "i": 1, "pattern": p} for p in (1, 3)),
        *({**SPLIT, "sizes": "i64[3] = 1 2 3", "i": 2, "pattern": p} for p in (4, 6)),
        *(
            {**SPLIT, "n": 3, "i": 1, "axis": -3, "w": "f32[7,4,3,3] const", "b": "f32[7] const", "pattern": p}
            for p in (5, 7)
        ),
    ],
    refuse=[
        {**SPLIT, "sizes": "i64[2] = 2 3", "axis": 2, "pattern": 0, "because": "channels"},
        {**SPLIT, "w": "f32[6,4,3,3]", "pattern": 0, "because": "computed"},
    ],
)
def part_of_conv(
    x: Value,
    w: Value,
    b: Value | None,
    sizes: Value | None,
    axis: int,
    n: int | None,
    i: int,
    a: Mapping[str, Any],
) -> Term:
    """Split(Conv(x, w, b)) = Conv(x, part of w, part of b), along the channels."""
    _require_dense(x, w, a)
    if axis % w.rank != 1:
        raise Skip("the parts are not ranges of channels")
    channels = output_channels(w)
    if sizes is None:
        each = -(-channels // (n or 1))
        begin, end = i * each, min(channels, (i + 1) * each)
    else:
        counts = [int(k) for k in sizes.array.reshape(-1)]
        begin, end = sum(counts[:i]), sum(counts[: i + 1])
    bias = None if b is None else _part(b, ints(begin), ints(end))
    return op.Conv(x, _part(w, ints(begin), ints(end)), bias, **a)


def _added(reduce: Any, x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    _require_dense(x, w, a)
    if [int(k) % w.rank for k in axes.array.reshape(-1)] != [1]:
        raise Skip("the sum is not over the channels")
    return op.Conv(x, reduce(w, ints(0), keepdims=1), None if b is None else reduce(b, ints(0), keepdims=1), **a)


@rule(
    op.ReduceSum(conv, axes, keepdims=1),
    op.ReduceSum(conv_bias, axes, keepdims=1),
    drift="rounding",
    peers="onnxsim",
    example={**CONV, "axes": "i64[1] = 1"},
    refuse=[
        {**CONV, "axes": "i64[1] = 2", "because": "channels"},
        {**CONV, "axes": "i64[2] = 1 2", "because": "channels"},
    ],
)
def sum_of_channels(x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    """Σ over channels of Conv(x, w, b) = Conv(x, Σw, Σb)."""
    return _added(op.ReduceSum, x, w, b, axes, a)


@rule(
    op.ReduceMean(conv, axes, keepdims=1),
    op.ReduceMean(conv_bias, axes, keepdims=1),
    drift="rounding",
    example={**CONV, "axes": "i64[1] = 1"},
    refuse={**CONV, "axes": "i64[1] = 2", "because": "channels"},
)
def mean_of_channels(x: Value, w: Value, b: Value | None, axes: Value, a: Mapping[str, Any]) -> Term:
    """Mean over channels of Conv(x, w, b) = Conv(x, mean of w, mean of b)."""
    return _added(op.ReduceMean, x, w, b, axes, a)
