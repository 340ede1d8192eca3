"""Operators that make one entry of many."""

from __future__ import annotations

from onnx import TensorProto

from ..facts import Shape
from .call import Call, Known, Rule, axis_of, with_dim

_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"


def _reduce(call: Call) -> list[Known]:
    shape, keep = call.shape(), bool(call.get("keepdims"))
    stated = call.attributes.get("axes")
    axes = tuple(stated) if stated is not None else call.numbers(1)
    if shape is None:
        return [(call.dtype(), None)]
    if axes is None and call.has(1):
        return [(call.dtype(), (None,) * len(shape) if keep else _shorter(shape, call.shape(1)))]
    if not axes and call.attributes.get("noop_with_empty_axes"):
        return [(call.dtype(), shape)]
    gone = {axis_of(a, len(shape)) for a in axes} if axes else set(range(len(shape)))
    dims = [1 if i in gone else d for i, d in enumerate(shape) if keep or i not in gone]
    return [(call.dtype(), tuple(dims))]


def _shorter(shape: Shape, axes: Shape | None) -> Shape | None:
    """Only the number of axes is known."""
    if axes is None or len(axes) != 1 or not isinstance(axes[0], int) or axes[0] == 0:
        return None
    return (None,) * (len(shape) - axes[0])


def _arg(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(TensorProto.INT64, None)]
    axis = axis_of(int(call.get("axis")), len(shape))
    kept = with_dim(shape, axis, 1) if call.get("keepdims") else (*shape[:axis], *shape[axis + 1 :])
    return [(TensorProto.INT64, kept)]


def _top_k(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(call.dtype(), None), (TensorProto.INT64, None)]
    axis = axis_of(int(call.get("axis")), len(shape))
    stated = call.attributes.get("k")
    entries = (stated,) if stated is not None else call.entries(1)
    count = entries[0] if entries and isinstance(entries[0], (int, str)) else None
    found = with_dim(shape, axis, count)
    return [(call.dtype(), found), (TensorProto.INT64, found)]


RULES: dict[str, Rule] = {
    **{f"Reduce{name}": _reduce for name in _REDUCTIONS.split()},
    "ArgMax": _arg,
    "ArgMin": _arg,
    "TopK": _top_k,
}
