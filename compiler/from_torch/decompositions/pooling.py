"""Poolings and paddings that ONNX's operators do not do as torch does, written with slices and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def adaptive_avg_pool(self: Tensor, output_size: Sequence[int]) -> Tensor:
    """Means over boxes that divide the input as evenly as may be; a mean over a box is one axis after the other."""
    for axis, size in enumerate(output_size):
        dim = self.dim() - len(output_size) + axis
        self = torch.cat([part.mean(dim, keepdim=True) for part in _parts(self, dim, size)], dim)
    return self


def adaptive_max_pool(self: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Maxima over the same boxes, and where in the box's map each was found."""
    first = self.dim() - len(output_size)
    places = torch.arange(_product(self.shape[first:]), device=self.device)
    places = places.reshape(self.shape[first:]).expand(self.shape)
    for axis, size in enumerate(output_size):
        dim = first + axis
        values: list[Tensor] = []
        found: list[Tensor] = []
        for part, where in zip(_parts(self, dim, size), _parts(places, dim, size), strict=True):
            best = part.argmax(dim, keepdim=True)
            values.append(part.amax(dim, keepdim=True))
            found.append(where.gather(dim, best))
        self, places = torch.cat(values, dim), torch.cat(found, dim)
    return self, places


def _parts(x: Tensor, dim: int, count: int) -> list[Tensor]:
    """The slices that adaptive pooling takes together: from floor(i·n/count) to ceil((i+1)·n/count)."""
    n = x.shape[dim]
    bounds = [((i * n) // count, -((-(i + 1) * n) // count)) for i in range(count)]
    return [x.narrow(dim, start, end - start) for start, end in bounds]


def avg_pool(
    self: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Average pooling whose divisor ONNX cannot state: given by the caller, or of windows that reach over the edge.

    The windows' means over a zero-padded input, corrected for each place by what they should be divided by: as one
    factor, since neither a large window's sum nor its size fits half precision.
    """
    if not ceil_mode and divisor_override is None:
        return NotImplemented
    dims = len(kernel_size)
    steps, margins = list(stride) or list(kernel_size), list(padding) * (dims if len(padding) == 1 else 1)
    first, area = self.dim() - dims, _product(kernel_size)
    whole = all(k >= n for k, n in zip(kernel_size, self.shape[first:], strict=True))
    if whole and divisor_override is None and not any(margins):
        return self.mean(list(range(first, self.dim())), keepdim=True)  # one window, cut where the input ends
    over: list[int] = []
    divisor = torch.ones((), device=self.device)
    for axis, (kernel, step, margin) in enumerate(zip(kernel_size, steps, margins, strict=True)):
        n = self.shape[first + axis]
        reach = n + 2 * margin - kernel
        count = (-(-reach // step) if ceil_mode else reach // step) + 1
        # A window that would begin beyond the input and its left margin is left out.
        count = count - 1 if (count - 1) * step >= n + margin else count
        over.append(max((count - 1) * step + kernel - n - 2 * margin, 0))
        start = torch.arange(count, device=self.device) * step - margin
        end = (start + kernel).clamp_max(n + margin)
        length = end - start if count_include_pad else end.clamp_max(n) - start.clamp_min(0)
        divisor = divisor * length.to(divisor.dtype).reshape([-1] + [1] * (dims - 1 - axis))
    sides = [
        side for margin, more in zip(reversed(margins), reversed(over), strict=True) for side in (margin, margin + more)
    ]
    pool = {1: aten.avg_pool1d.default, 2: aten.avg_pool2d.default, 3: aten.avg_pool3d.default}[dims]
    means = pool(aten.constant_pad_nd.default(self, sides, 0.0), list(kernel_size), steps)
    if divisor_override is not None:
        return means * (area / divisor_override)
    return means * (area / divisor).to(self.dtype)


def pad(self: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Circular padding, which ONNX has from opset 19, and negative padding, which cuts, of the other kinds."""
    if mode == "circular":
        return _pad_circular(self, pad)
    if mode == "constant" or all(side >= 0 for side in pad):
        return NotImplemented
    # What is mirrored or repeated is the edge of the whole input: pad first, cut afterwards.
    return _cut(aten.pad.default(self, [max(side, 0) for side in pad], mode, value), pad)


def _pad_circular(x: Tensor, pad: Sequence[int]) -> Tensor:
    x = _cut(x, pad)
    for number in range(len(pad) // 2):
        dim, left, right = x.dim() - 1 - number, max(pad[2 * number], 0), max(pad[2 * number + 1], 0)
        parts = [x.narrow(dim, x.shape[dim] - left, left), x, x.narrow(dim, 0, right)]
        x = torch.cat([part for part, size in zip(parts, (left, 1, right), strict=True) if size], dim)
    return x


def _cut(x: Tensor, pad: Sequence[int]) -> Tensor:
    """Take off what negative sides say."""
    for number in range(len(pad) // 2):
        dim, left, right = x.dim() - 1 - number, max(-pad[2 * number], 0), max(-pad[2 * number + 1], 0)
        x = x.narrow(dim, left, x.shape[dim] - left - right) if left or right else x
    return x


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total = total * size
    return total


TABLE: dict[Any, Callable[..., Any]] = {
    aten._adaptive_avg_pool3d.default: adaptive_avg_pool,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.adaptive_max_pool3d.default: adaptive_max_pool,
    aten.avg_pool1d.default: avg_pool,
    aten.avg_pool2d.default: avg_pool,
    aten.avg_pool3d.default: avg_pool,
    aten.pad.default: pad,
}
