"""Reductions, cumulative sums and products, positions of extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .operation import Operation, is_recorded
from .registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Each reduction as a function of (x, axes, keep dimensions); no axes means all of them. `MAPS` is what remains of it
# when `noop_with_empty_axes` leaves the shape alone.
_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: torch.sum(torch.abs(x), axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes or None, keep),
    "ReduceLogSum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keep)),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keep),
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keep),
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(torch.square(x), axes, keep),
}
_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "ReduceL1": torch.abs,
    "ReduceL2": torch.abs,
    "ReduceLogSum": torch.log,
    "ReduceSumSquare": torch.square,
}


@operator(*_REDUCTIONS, "ReduceLogSumExp", "ReduceProd", widens=True)
def reduce(op: Operation, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """A reduction over axes, which are an attribute at first and an input later (ReduceSum 13, the others 18)."""
    name, keep, noop = op.node.op_type, kept(op), bool(op.attribute("noop_with_empty_axes", 0))
    where = (op.numbers("axes") or []) if axes is None else op.sizes(1, axes)
    source = op.node.inputs[0]
    empty = source is not None and source.shape is not None and 0 in source.shape.dims
    if is_recorded(where) or empty or not op.floating(0):
        return op.call(reduced, name, x, where, keep, noop)
    if not where and noop:
        return _MAPS[name](x) if name in _MAPS else x
    if name == "ReduceLogSumExp" and where:
        return torch.logsumexp(x, where, keep)
    if name == "ReduceProd" and len(where) == 1:
        return torch.prod(x, where[0], keep)
    return _REDUCTIONS[name](x, where, keep) if name in _REDUCTIONS else op.call(reduced, name, x, where, keep, noop)


@operator("ArgMax", "ArgMin", widens=True)
def position(op: Operation, x: Tensor) -> Tensor:
    """Where the first (or last) largest or smallest element is."""
    function = torch.argmax if op.node.op_type == "ArgMax" else torch.argmin
    axis = op.attribute("axis", 0)
    if not op.attribute("select_last_index", 0):
        return function(x, axis, kept(op))
    return x.size(axis) - 1 - function(torch.flip(x, [axis]), axis, kept(op))


@operator("CumSum", "CumProd", widens=True)
def cumulative(op: Operation, x: Tensor, axis: Tensor) -> Tensor:
    """Running sum or product; `exclusive` shifts it by one, `reverse` runs from the end."""
    known = op.fixed(1)
    exclusive, reverse = bool(op.attribute("exclusive", 0)), bool(op.attribute("reverse", 0))
    product = op.node.op_type == "CumProd"
    if known is None or exclusive or reverse:
        where = op.call(int, axis) if known is None else known[0]
        return op.call(accumulated, x, where, product, exclusive, reverse)
    function = torch.cumprod if product else torch.cumsum
    return function(x, known[0]) if op.floating(0) else function(x, known[0], dtype=x.dtype)


def kept(op: Operation) -> bool:
    """Whether reduced axes stay, with size 1."""
    return bool(op.attribute("keepdims", 1))


def reduced(name: str, x: Tensor, axes: list[int], keep: bool, noop: bool) -> Tensor:
    """A reduction of any type over axes that may be known only when the program runs."""
    if not axes and noop:
        return _MAPS[name](x) if name in _MAPS else x
    where = [(axis + x.dim()) % x.dim() for axis in axes] or list(range(x.dim()))
    if name == "ReduceProd":
        for axis in sorted(where, reverse=True):
            x = torch.prod(x, axis, keep, dtype=x.dtype)
        return x
    if not where:  # a scalar
        return _MAPS[name](x) if name in _MAPS else x
    if name in ("ReduceMax", "ReduceMin") and not all(x.shape[axis] for axis in where):
        return extreme_of_nothing(x, where, keep, name == "ReduceMax")
    if name in ("ReduceMax", "ReduceMin") or x.is_floating_point():
        return torch.logsumexp(x, where, keep) if name == "ReduceLogSumExp" else _REDUCTIONS[name](x, where, keep)
    if name in ("ReduceSum", "ReduceL1", "ReduceSumSquare"):
        return _REDUCTIONS[name](x, where, keep).to(x.dtype)  # torch sums integers in int64
    wide = x.to(torch.float64)
    result = torch.logsumexp(wide, where, keep) if name == "ReduceLogSumExp" else _REDUCTIONS[name](wide, where, keep)
    return result.to(x.dtype)


def extreme_of_nothing(x: Tensor, axes: list[int], keep: bool, largest: bool) -> Tensor:
    """The extreme element of no elements: the smallest or largest value of the type."""
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
    if x.is_floating_point():
        worst = -torch.inf if largest else torch.inf
    elif x.dtype == torch.bool:
        worst = int(not largest)
    else:
        worst = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
    return torch.full(shape, worst, dtype=x.dtype, device=x.device)


def accumulated(x: Tensor, axis: int, product: bool, exclusive: bool, reverse: bool) -> Tensor:
    """Running sum or product along an axis."""
    if x.shape[axis] == 0:
        return x
    x = x.flip(axis) if reverse else x
    result = torch.cumprod(x, axis, dtype=x.dtype) if product else torch.cumsum(x, axis, dtype=x.dtype)
    if exclusive:
        first = torch.full_like(result.narrow(axis, 0, 1), int(product))
        result = torch.cat([first, result.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return result.flip(axis) if reverse else result
