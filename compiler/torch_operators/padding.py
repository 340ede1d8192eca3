"""Padding and centred cropping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation, is_recorded
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor

_TORCH_MODES = {"edge": "replicate", "reflect": "reflect"}


@operator("Pad", widens=True)
def pad(
    op: Operation, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Elements added (or, for negative numbers, taken) at both ends of the axes."""
    mode, rank = op.attribute("mode", "constant"), op.rank(0)
    amounts = (op.numbers("pads") or op.numbers("paddings") or []) if pads is None else op.sizes(1, pads)
    fill = op.attribute("value", 0.0) if pads is None else (0 if value is None else op.number(2))
    where = None if axes is None else op.fixed(3)
    known_axes = axes is None or where is not None
    if rank is None or is_recorded(amounts) or not known_axes or fill is None:
        return op.call(
            padded, x, amounts, None if axes is None else op.sizes(3, axes), mode, value if fill is None else fill
        )
    where = list(range(rank)) if where is None else [axis + rank if axis < 0 else axis for axis in where]
    pairs = {axis: (amounts[index], amounts[index + len(where)]) for index, axis in enumerate(where)}
    if mode == "constant":
        return functional.pad(x, torch_order(pairs, rank), "constant", fill)
    if mode in _TORCH_MODES and spatial(op, pairs, rank):
        return functional.pad(x, torch_order(pairs, rank, lowest=2), _TORCH_MODES[mode])
    return op.call(padded, x, amounts, where, mode, fill)


@operator("CenterCropPad")
def center_crop_pad(op: Operation, x: Tensor, shape: Tensor) -> Tensor:
    """The middle of `x`, cropped or padded with zeros to a shape."""
    return op.call(centred, x, op.sizes(1, shape), op.numbers("axes"))


def torch_order(pairs: dict[int, tuple[int, int]], rank: int, lowest: int | None = None) -> list[int]:
    """Torch's list of pads: pairs from the last axis down to the lowest one that is padded (or to `lowest`)."""
    lowest = min((axis for axis, pair in pairs.items() if pair != (0, 0)), default=rank) if lowest is None else lowest
    return [amount for axis in reversed(range(lowest, rank)) for amount in pairs.get(axis, (0, 0))]


def spatial(op: Operation, pairs: dict[int, tuple[int, int]], rank: int) -> bool:
    """Whether torch's own reflection or replication covers this: non-negative, small, on images' spatial axes only."""
    value = op.node.inputs[0]
    if rank not in (3, 4, 5) or not op.floating(0) or value is None or value.shape is None:
        return False
    dims = value.shape.dims
    for axis, pair in pairs.items():
        size = dims[axis]
        for amount in pair:
            if is_recorded(amount) or amount < 0 or (amount > 0 and axis < 2):
                return False
            if amount > 0 and (not isinstance(size, int) or amount >= size):
                return False
    return True


def padded(x: Tensor, amounts: list[int], axes: list[int] | None, mode: str, fill: Tensor | float) -> Tensor:
    """`Pad` with everything known only when the program runs."""
    where = list(range(x.dim())) if axes is None else [(axis + x.dim()) % x.dim() for axis in axes]
    amounts = [int(amount) for amount in amounts]
    pairs = {axis: (amounts[index], amounts[index + len(where)]) for index, axis in enumerate(where)}
    if mode != "constant":
        for axis, (before, after) in pairs.items():
            x = x.index_select(axis, source_positions(x.shape[axis], before, after, mode).to(x.device))
        return x
    order = torch_order(pairs, x.dim(), lowest=0)
    if not isinstance(fill, torch.Tensor):
        return functional.pad(x, order, "constant", fill)
    inside = functional.pad(torch.ones_like(x, dtype=torch.bool), order, "constant", False)
    return torch.where(inside, functional.pad(x, order), fill.reshape(()).to(x.dtype))


def source_positions(size: int, before: int, after: int, mode: str) -> Tensor:
    """Which element each place of a padded axis copies."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        # what is cropped away cannot come back at the other end
        low, high = max(-before, 0), size + min(after, 0)
        return torch.remainder(places - low, high - low) + low
    period = max(2 * (size - 1), 1)
    folded = torch.remainder(places, period)
    return torch.where(folded >= size, period - folded, folded)


def centred(x: Tensor, sizes: list[int], axes: list[int] | None) -> Tensor:
    """The middle of `x`, cropped or padded with zeros to `sizes` along `axes`."""
    order = [0] * (2 * x.dim())
    for axis, size in zip(range(x.dim()) if axes is None else axes, sizes, strict=True):
        axis = (axis + x.dim()) % x.dim()
        missing = int(size) - x.shape[axis]
        # the odd element is added at the end, and cropped at the end
        before = missing // 2 if missing >= 0 else -(-missing // 2)
        position = 2 * (x.dim() - 1 - axis)
        order[position], order[position + 1] = before, missing - before
    return functional.pad(x, order)
