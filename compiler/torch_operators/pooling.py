"""Pooling with windows, and over the whole image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .convolution import known_sizes, same_pads, same_pads_now
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class Window:
    """A pooling node's window, its attributes completed with their defaults."""

    def __init__(self, op: Operation) -> None:
        self.kernel: list[int] = list(op.required("kernel_shape"))
        self.rank = len(self.kernel)
        self.strides: list[int] = op.numbers("strides") or [1] * self.rank
        self.dilations: list[int] = op.numbers("dilations") or [1] * self.rank
        self.auto = op.attribute("auto_pad", "NOTSET")
        self.pads: list[int] = op.numbers("pads") or [0] * (2 * self.rank)
        if self.auto == "VALID":
            self.pads = [0] * (2 * self.rank)
        channels_last = op.attribute("channels_last", 0) or op.node.op_type == "NhwcMaxPool"
        if self.auto.startswith("SAME") and not channels_last:
            lower = self.auto == "SAME_LOWER"
            pads = same_pads_now(known_sizes(op, 0), self.kernel, self.strides, self.dilations, lower)
            self.pads, self.auto = (self.pads, self.auto) if pads is None else (pads, "NOTSET")
        self.ceil = bool(op.attribute("ceil_mode", 0))

    @property
    def plain(self) -> bool:
        """Whether torch's pooling takes this padding: known, the same at both ends, at most half the window."""
        if self.auto.startswith("SAME") or self.rank > 3 or self.pads[: self.rank] != self.pads[self.rank :]:
            return False
        return all(0 <= pad <= size // 2 for pad, size in zip(self.pads, self.kernel, strict=False))

    @property
    def spec(self) -> tuple[list[int], list[int], list[int], list[int], str, bool]:
        """Kernel, strides, dilations, pads, automatic padding and rounding, as plain data."""
        return self.kernel, self.strides, self.dilations, self.pads, self.auto, self.ceil


@operator("MaxPool")
def max_pool(op: Operation, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Largest element in a window, and where it is in the whole tensor."""
    window, indices = Window(op), op.wants(1)
    if window.plain and op.floating(0) and not indices:
        pads = window.pads[: window.rank]
        return _MAX[window.rank](x, window.kernel, window.strides, pads, window.dilations, window.ceil)
    if not indices:
        return op.call(window_max, x, *window.spec)
    found = op.call(window_max_indices, x, *window.spec, bool(op.attribute("storage_order", 0)))
    return found[0], found[1]


@operator("AveragePool")
def average_pool(op: Operation, x: Tensor) -> Tensor:
    """Mean of a window, with or without the padding in the count."""
    window, count_pads = Window(op), bool(op.attribute("count_include_pad", 0))
    if window.plain and set(window.dilations) == {1} and not window.ceil and op.floating(0):
        pads = window.pads[: window.rank]
        return _AVERAGE[window.rank](x, window.kernel, window.strides, pads, False, count_pads)
    return op.call(window_mean, x, *window.spec, count_pads)


@operator("LpPool")
def lp_pool(op: Operation, x: Tensor) -> Tensor:
    """p-norm of a window."""
    window = Window(op)
    return op.call(window_norm, x, *window.spec, float(op.attribute("p", 2)))


@operator("GlobalAveragePool")
def global_average_pool(op: Operation, x: Tensor) -> Tensor:
    """Mean over the spatial axes."""
    rank = op.rank(0)
    return op.call(global_mean, x) if rank is None else torch.mean(x, list(range(2, rank)), True)


@operator("GlobalMaxPool")
def global_max_pool(op: Operation, x: Tensor) -> Tensor:
    """Largest element over the spatial axes."""
    rank = op.rank(0)
    return op.call(global_max, x) if rank is None else torch.amax(x, list(range(2, rank)), True)


@operator("GlobalLpPool")
def global_lp_pool(op: Operation, x: Tensor) -> Tensor:
    """p-norm over the spatial axes."""
    return op.call(global_norm, x, float(op.attribute("p", 2)))


@operator("MaxUnpool")
def max_unpool(op: Operation, x: Tensor, indices: Tensor, shape: Tensor | None = None) -> Tensor:
    """Each element at the place it was the largest of, zeros elsewhere."""
    window = Window(op)
    target = None if shape is None else op.sizes(2, shape)
    return op.call(unpooled, x, indices, target, window.kernel, window.strides, window.pads)


def global_mean(x: Tensor) -> Tensor:
    """Mean over the spatial axes."""
    return x.mean(list(range(2, x.dim())), True)


def global_max(x: Tensor) -> Tensor:
    """Largest element over the spatial axes."""
    return x.amax(list(range(2, x.dim())), True)


def global_norm(x: Tensor, p: float) -> Tensor:
    """p-norm over the spatial axes."""
    return torch.linalg.vector_norm(x, p, list(range(2, x.dim())), True)


def extents(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    auto: str,
    ceil: bool,
) -> tuple[list[tuple[int, int]], list[int]]:
    """Padding of each axis and the number of windows on it."""
    sizes, rank = list(x.shape[2:]), len(kernel)
    if auto.startswith("SAME"):
        pairs = same_pads(sizes, kernel, strides, dilations, auto == "SAME_LOWER")
    else:
        pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    counts: list[int] = []
    for size, (before, after), k, s, d in zip(sizes, pairs, kernel, strides, dilations, strict=True):
        room = size + before + after - (k - 1) * d - 1
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= size + before:  # a window must start within the input or the padding before it
            count -= 1
        counts.append(count)
    return pairs, counts


def folded(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    counts: list[int],
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Combine the elements of each window, one axis after the other; `x` must cover every window."""
    for axis, (k, s, d, count) in enumerate(zip(kernel, strides, dilations, counts, strict=True), start=2):
        parts = [x[(slice(None),) * axis + (slice(i * d, i * d + (count - 1) * s + 1, s),)] for i in range(k)]
        x = parts[0]
        for part in parts[1:]:
            x = combine(x, part)
    return x


def covered(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pairs: list[tuple[int, int]],
    counts: list[int],
    value: float,
) -> Tensor:
    """`x` padded exactly as far as its windows reach."""
    order: list[int] = []
    for axis in reversed(range(len(kernel))):
        before = pairs[axis][0]
        reach = (counts[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        order += [before, reach - before - x.shape[axis + 2]]
    return functional.pad(x, order, value=value)


def lowest(x: Tensor) -> float:
    """The neutral element of the maximum."""
    return -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min


def window_max(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int], auto: str, ceil: bool
) -> Tensor:
    """Largest element of each window."""
    pairs, counts = extents(x, kernel, strides, dilations, pads, auto, ceil)
    wide = covered(x, kernel, strides, dilations, pairs, counts, lowest(x))
    return folded(wide, kernel, strides, dilations, counts, torch.maximum)


def window_max_indices(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    auto: str,
    ceil: bool,
    column_major: bool,
) -> tuple[Tensor, Tensor]:
    """Largest element of each window, and its place in the whole tensor, channels and batch included."""
    pairs, counts = extents(x, kernel, strides, dilations, pads, auto, ceil)
    rank, sizes = len(kernel), list(x.shape[2:])
    if rank > 3:
        raise Unsupported("indices of windows of more than three axes")
    wide = covered(x, kernel, strides, dilations, pairs, counts, lowest(x))
    work = wide if x.is_floating_point() else wide.to(torch.float64)
    best, flat = _MAX[rank](work, kernel, strides, 0, dilations, False, return_indices=True)
    place, stride = torch.zeros_like(flat), 1
    coordinates: list[Tensor] = []
    for axis in reversed(range(rank)):
        coordinates.insert(0, torch.remainder(flat, wide.shape[axis + 2]) - pairs[axis][0])
        flat = torch.div(flat, wide.shape[axis + 2], rounding_mode="floor")
    for axis in range(rank) if column_major else reversed(range(rank)):
        place = place + coordinates[axis] * stride
        stride *= sizes[axis]
    plane = torch.arange(x.shape[0] * x.shape[1], device=x.device) * stride
    return best.to(x.dtype), place + plane.reshape(x.shape[0], x.shape[1], *[1] * rank)


def window_mean(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    auto: str,
    ceil: bool,
    count_pads: bool,
) -> Tensor:
    """Mean of each window; what lies beyond the padding is never counted."""
    pairs, counts = extents(x, kernel, strides, dilations, pads, auto, ceil)
    wide = covered(x, kernel, strides, dilations, pairs, counts, 0.0)
    total = folded(wide, kernel, strides, dilations, counts, torch.add)
    ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    if count_pads:
        ones = functional.pad(ones, [amount for pair in reversed(pairs) for amount in pair], value=1.0)
        pairs = [(0, 0)] * len(pairs)
    number = folded(
        covered(ones, kernel, strides, dilations, pairs, counts, 0.0), kernel, strides, dilations, counts, torch.add
    )
    return total / number


def window_norm(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    auto: str,
    ceil: bool,
    p: float,
) -> Tensor:
    """p-norm of each window."""
    pairs, counts = extents(x, kernel, strides, dilations, pads, auto, ceil)
    wide = covered(x.abs().pow(p), kernel, strides, dilations, pairs, counts, 0.0)
    return folded(wide, kernel, strides, dilations, counts, torch.add).pow(1.0 / p)


def unpooled(
    x: Tensor, indices: Tensor, shape: list[int] | None, kernel: list[int], strides: list[int], pads: list[int]
) -> Tensor:
    """Each element at its index of the tensor that was pooled; `shape` may ask for a larger one."""
    rank = len(kernel)
    inferred = [
        (size - 1) * strides[axis] - pads[axis] - pads[axis + rank] + kernel[axis]
        for axis, size in enumerate(x.shape[2:])
    ]
    sizes = [*x.shape[:2], *inferred]
    flat = torch.zeros(math.prod(sizes), dtype=x.dtype, device=x.device)
    result = flat.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(sizes)
    if shape is None:
        return result
    grown = [amount for axis in reversed(range(rank)) for amount in (0, int(shape[axis + 2]) - inferred[axis])]
    return functional.pad(result, grown)
