"""Reading and writing elements by position."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from .operation import Operation, is_recorded
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor

_END = 2**62
_LARGEST = (2**31 - 1, 2**63 - 1)
_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Gather", widens=True)
def gather(op: Operation, x: Tensor, indices: Tensor) -> Tensor:
    """Slices along an axis; negative indices count from the end."""
    axis, rank = op.attribute("axis", 0), op.rank(0)
    fixed = op.fixed(1)
    if fixed is not None and op.rank(1) == 0:
        return torch.select(x, axis, fixed[0])
    if fixed is not None and op.rank(1) == 1 and min(fixed, default=0) >= 0:
        return torch.index_select(x, axis, indices)
    axis = axis + rank if axis < 0 and rank is not None else axis
    if axis < 0:
        return op.call(gathered, x, indices, axis)
    return x[(slice(None),) * axis + (indices,)]


@operator("GatherElements", widens=True)
def gather_elements(op: Operation, x: Tensor, indices: Tensor) -> Tensor:
    """Elements along an axis, one index for each."""
    axis = op.attribute("axis", 0)
    return torch.gather(x, axis, from_start(op, x, indices, axis))


@operator("GatherND")
def gather_nd(op: Operation, x: Tensor, indices: Tensor) -> Tensor:
    """Slices by tuples of indices."""
    return op.call(gathered_nd, x, indices, op.attribute("batch_dims", 0))


@operator("ScatterElements", "Scatter")
def scatter_elements(op: Operation, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Elements replaced, or combined, along an axis."""
    axis, reduction = op.attribute("axis", 0), op.attribute("reduction", "none")
    where = from_start(op, x, indices, axis)
    if reduction == "none":
        return torch.scatter(x, axis, where, updates)
    return torch.scatter_reduce(x, axis, where, updates, _REDUCE[reduction])


@operator("ScatterND")
def scatter_nd(op: Operation, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Slices replaced, or combined, by tuples of indices."""
    return op.call(scattered_nd, x, indices, updates, op.attribute("reduction", "none"))


@operator("TensorScatter")
def tensor_scatter(op: Operation, cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
    """A cache with an update written at each sample's own position."""
    circular = op.attribute("mode", "linear") == "circular"
    return op.call(cache_updated, cache, update, start, op.attribute("axis", -2), circular)


@operator("Slice")
def slice_(
    op: Operation,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """A range with a step along each of the axes."""
    if starts is None or ends is None:
        first, last, where, by = op.numbers("starts") or [], op.numbers("ends") or [], op.numbers("axes"), None
    else:
        first, last = op.sizes(1, starts), op.sizes(2, ends)
        where = None if axes is None else op.sizes(3, axes)
        by = None if steps is None else op.sizes(4, steps)
    plain = plain_slices(first, last, where, by, op.rank(0))
    return op.call(sliced, x, first, last, where, by) if plain is None else x[plain]


@operator("Compress")
def compress(op: Operation, x: Tensor, condition: Tensor) -> Tensor:
    """Slices at which a condition holds."""
    return op.call(compressed, x, condition, op.attribute("axis", None))


@operator("NonZero")
def non_zero(op: Operation, x: Tensor) -> Tensor:
    """Indices of elements that are not 0, a row for each axis."""
    return op.call(non_zero_indices, x)


@operator("OneHot")
def one_hot(op: Operation, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """`values[1]` at the index, `values[0]` elsewhere, along a new axis."""
    known = op.number(1)
    size = op.call(int, depth) if known is None else int(known)
    return op.call(one_hot_encoded, indices, size, values, op.attribute("axis", -1))


def from_start(op: Operation, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Indices along an axis, negative ones counted from the start."""
    constant = op.constant(1)
    indices = indices if op.dtype(1) == torch.int64 else indices.to(torch.int64)
    if constant is not None and constant.numel() and int(constant.min()) >= 0:
        return indices
    return torch.where(indices < 0, indices + x.size(axis), indices)


def plain_slices(first: Any, last: Any, axes: Any, steps: Any, rank: int | None) -> tuple[slice, ...] | None:
    """The subscript that says the same, when torch has one: steps and axes known, steps positive."""
    if not isinstance(first, list) or not isinstance(last, list):
        return None
    axes = list(range(len(first))) if axes is None else axes
    steps = [1] * len(first) if steps is None else steps
    if not isinstance(axes, list) or not isinstance(steps, list):
        return None
    if any(is_recorded(number) for number in axes + steps) or any(step <= 0 for step in steps):
        return None
    if rank is None and any(axis < 0 for axis in axes):
        return None
    where = [axis + rank if axis < 0 and rank is not None else axis for axis in axes]
    result = [slice(None)] * (max(where, default=-1) + 1)
    for axis, start, end, step in zip(where, first, last, steps, strict=True):
        result[axis] = slice(clamped(start), clamped(end), step)
    return tuple(result)


def clamped(bound: int) -> int:
    """A slice bound without the 2⁶³ - 1 that files use for the end: symbolic sizes must not overflow on it."""
    return bound if is_recorded(bound) else max(min(bound, _END), -_END)


def gathered(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Slices along an axis that counts from the end."""
    axis = axis + x.dim() if axis < 0 else axis
    return x[(slice(None),) * axis + (indices,)]


def gathered_nd(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Slices by tuples of indices, the first `batch_dims` axes going along."""
    batch = indices.shape[:batch_dims]
    outer = indices.shape[batch_dims:-1]
    count, depth = math.prod(batch), indices.shape[-1]
    flat = x.reshape(count, *x.shape[batch_dims:])
    where = indices.to(torch.int64).reshape(count, -1, depth)
    rows = torch.arange(count, device=x.device).unsqueeze(1)
    picked = flat[(rows, *where.unbind(-1))]
    return picked.reshape(*batch, *outer, *x.shape[batch_dims + depth :])


def scattered_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Slices replaced, or combined, by tuples of indices."""
    depth = indices.shape[-1]
    where = indices.to(torch.int64)
    if reduction in ("none", "add"):
        return x.index_put(tuple(where.unbind(-1)), updates, accumulate=reduction == "add")
    inner = math.prod(x.shape[depth:])
    flat = torch.zeros(where.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        index = where[..., axis]
        flat = flat * x.shape[axis] + torch.where(index < 0, index + x.shape[axis], index)
    places = (flat.reshape(-1, 1) * inner + torch.arange(inner, device=x.device)).reshape(-1)
    return x.reshape(-1).scatter_reduce(0, places, updates.reshape(-1), _REDUCE[reduction]).reshape(x.shape)


def cache_updated(cache: Tensor, update: Tensor, start: Tensor | None, axis: int, circular: bool) -> Tensor:
    """A cache with an update written at each sample's own position along an axis."""
    axis = axis + cache.dim() if axis < 0 else axis
    steps = torch.arange(update.shape[axis], device=cache.device).unsqueeze(0)
    first = (
        torch.zeros(cache.shape[0], 1, dtype=torch.int64, device=cache.device)
        if start is None
        else start.reshape(-1, 1)
    )
    places = first.to(cache.device) + steps  # (batch, steps)
    places = torch.remainder(places, cache.shape[axis]) if circular else places
    view = [cache.shape[0]] + [1] * (cache.dim() - 1)
    view[axis] = update.shape[axis]
    return cache.scatter(axis, places.reshape(view).expand(update.shape), update)


def sliced(x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> Tensor:
    """A range with a step, which may be negative, along each of the axes."""
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis + x.dim() if axis < 0 else axis
        if step > 0:
            x = x[(slice(None),) * axis + (slice(clamped(start), clamped(end), step),)]
            continue
        places = backward(start, end, step, x.shape[axis])
        if not places:
            x = x.narrow(axis, 0, 0)
            continue
        # counted on the device: a CUDA graph takes no copy to it
        x = x.index_select(axis, torch.arange(places.start, places.stop, places.step, device=x.device))
    return x


def backward(start: int, end: int, step: int, size: int) -> range:
    """Positions of a slice with a negative step; bounds are clamped to the axis, which Python's slices do otherwise.

    The largest integer as the end means the beginning of the axis, as in ONNX Runtime.
    """
    start = min(max(start + size if start < 0 else start, 0), size - 1)
    last = min(max(end + size if end < 0 else end, -1), size - 1)
    return range(start, -1 if end in _LARGEST else last, step)


def compressed(x: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    """Slices at which a condition holds, along an axis or of the flat tensor."""
    places = condition.reshape(-1).nonzero().reshape(-1).to(x.device)
    return x.reshape(-1).index_select(0, places) if axis is None else x.index_select(axis, places)


def non_zero_indices(x: Tensor) -> Tensor:
    """Indices of elements that are not 0, a row for each axis."""
    return torch.nonzero(x).t()


def one_hot_encoded(indices: Tensor, depth: int, values: Tensor, axis: int) -> Tensor:
    """`values[1]` at the index, `values[0]` elsewhere; an index out of range has no place."""
    axis = axis + indices.dim() + 1 if axis < 0 else axis
    where = indices.to(torch.int64)
    where = torch.where(where < 0, where + depth, where).unsqueeze(axis)
    view = [1] * where.dim()
    view[axis] = depth
    hot = where == torch.arange(depth, device=indices.device).reshape(view)
    return torch.where(hot, values[1], values[0])


@operator("Unique")
def unique(op: Operation, x: Tensor) -> tuple[Tensor, ...]:
    """Distinct elements or slices, where each is first, where each element went, and how often."""
    if op.floating(0) is None:
        raise Unsupported("the type of its input is not known")
    found = op.call(distinct, x, op.attribute("axis", None), bool(op.attribute("sorted", 1)))
    return tuple(found[index] for index in range(4))


def distinct(x: Tensor, axis: int | None, ordered: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct elements of the flat tensor, or slices along an axis; sorted, or in order of appearance."""
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    inverse = inverse.reshape(-1)
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if not ordered:
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values = values.index_select(0 if axis is None else axis, order)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    return values, first, inverse, counts
