"""Sampling of images at computed places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation, is_recorded
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor

_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@operator("GridSample")
def grid_sample(op: Operation, x: Tensor, grid: Tensor) -> Tensor:
    """Values at the places of a grid."""
    mode = op.attribute("mode", "linear")
    if mode in ("cubic", "bicubic") and op.rank(0) == 5:
        raise Unsupported("torch has no cubic sampling of volumes")
    align = bool(op.attribute("align_corners", 0))
    return functional.grid_sample(x, grid, _GRID_MODES.get(mode, mode), op.attribute("padding_mode", "zeros"), align)


@operator("AffineGrid")
def affine_grid(op: Operation, theta: Tensor, size: Tensor) -> Tensor:
    """The grid that an affine map makes of an image's places."""
    return functional.affine_grid(theta, op.sizes(1, size), bool(op.attribute("align_corners", 0)))


@operator("Col2Im")
def col2im(op: Operation, x: Tensor, image: Tensor, block: Tensor) -> Tensor:
    """Blocks added up at their places in an image."""
    sizes, window = op.sizes(1, image), op.sizes(2, block)
    rank = 0 if is_recorded(window) else len(window)
    dilations, pads, strides = op.numbers("dilations"), op.numbers("pads"), op.numbers("strides")
    if rank:
        dilations, pads, strides = dilations or [1] * rank, pads or [0] * (2 * rank), strides or [1] * rank
    if rank == 2 and pads and pads[:2] == pads[2:]:
        return op.call(functional.fold, x, sizes, window, dilations, pads[:2], strides)
    return op.call(folded, x, sizes, window, dilations, pads, strides)


@operator("DeformConv")
def deform_conv(
    op: Operation, x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Convolution whose window elements lie at learned offsets."""
    strides, dilations = op.numbers("strides") or [1, 1], op.numbers("dilations") or [1, 1]
    pads, group, offsets = op.numbers("pads") or [0] * 4, op.attribute("group", 1), op.attribute("offset_group", 1)
    return op.call(deformed, x, weight, offset, bias, mask, strides, dilations, pads, group, offsets)


@operator("RoiAlign")
def roi_align(op: Operation, x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """Regions of interest resampled to one size."""
    half = op.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel" and op.version >= 16
    size = (op.attribute("output_height", 1), op.attribute("output_width", 1))
    average = op.attribute("mode", "avg") == "avg"
    scale, ratio = op.attribute("spatial_scale", 1.0), op.attribute("sampling_ratio", 0)
    return op.call(regions_aligned, x, rois, batch, size, scale, ratio, average, half)


@operator("MaxRoiPool")
def max_roi_pool(op: Operation, x: Tensor, rois: Tensor) -> Tensor:
    """Largest element in each cell of each region."""
    return op.call(regions_pooled, x, rois, tuple(op.required("pooled_shape")), op.attribute("spatial_scale", 1.0))


def folded(
    x: Tensor,
    sizes: list[int],
    window: list[int],
    dilations: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Tensor:
    """Blocks of any rank added up at their places."""
    rank = len(sizes)
    dilations, pads, strides = dilations or [1] * rank, pads or [0] * (2 * rank), strides or [1] * rank
    padded = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(sizes)]
    flat = torch.zeros(1, 1, dtype=torch.int64, device=x.device)
    for axis in range(rank):
        count = (padded[axis] - (window[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1
        inner = torch.arange(window[axis], device=x.device) * dilations[axis]
        outer = torch.arange(count, device=x.device) * strides[axis]
        place = inner.unsqueeze(1) + outer  # (window, position)
        wide = flat[:, None, :, None] * padded[axis] + place[None, :, None, :]
        flat = wide.reshape(flat.shape[0] * place.shape[0], flat.shape[1] * place.shape[1])
    columns = x.reshape(x.shape[0], -1, flat.numel())
    image = torch.zeros(*columns.shape[:2], math.prod(padded), dtype=x.dtype, device=x.device)
    image = image.index_add(2, flat.reshape(-1), columns).reshape(*columns.shape[:2], *padded)
    return image[(..., *(slice(pads[axis], pads[axis] + size) for axis, size in enumerate(sizes)))]


def bilinear(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Values of images (n, c, h, w) at places (n, p); zero outside."""
    height, width = x.shape[2:]
    top, left = torch.floor(row), torch.floor(column)
    flat = x.flatten(2)
    result = torch.zeros(x.shape[0], x.shape[1], row.shape[1], dtype=x.dtype, device=x.device)
    for down in (0, 1):
        for right in (0, 1):
            r, c = top + down, left + right
            weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            place = (r.clamp(0, height - 1) * width + c.clamp(0, width - 1)).to(torch.int64)
            picked = flat.gather(2, place.unsqueeze(1).expand(-1, x.shape[1], -1))
            result = result + picked * (weight * inside).unsqueeze(1)
    return result


def deformed(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    group: int,
    offsets: int,
) -> Tensor:
    """Deformable convolution, version 2 where a mask is given (arXiv:1811.11168)."""
    n, channels = x.shape[:2]
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    moved = offset.reshape(n, offsets, kh * kw, 2, oh, ow)
    rows = torch.arange(oh, device=x.device) * strides[0] - pads[0]
    columns = torch.arange(ow, device=x.device) * strides[1] - pads[1]
    kernel_rows = torch.arange(kh, device=x.device).repeat_interleave(kw) * dilations[0]
    kernel_columns = torch.arange(kw, device=x.device).repeat(kh) * dilations[1]
    row = moved[:, :, :, 0] + kernel_rows[:, None, None] + rows[:, None]
    column = moved[:, :, :, 1] + kernel_columns[:, None, None] + columns
    shares = x.reshape(n * offsets, channels // offsets, *x.shape[2:])
    places = (part.reshape(n * offsets, -1) for part in (row, column))
    sampled = bilinear(shares, *places).reshape(n, offsets, channels // offsets, kh * kw, oh * ow)
    if mask is not None:
        sampled = sampled * mask.reshape(n, offsets, 1, kh * kw, oh * ow)
    unfolded = sampled.reshape(n, group, channels // group * kh * kw, oh * ow)
    filters = weight.reshape(group, weight.shape[0] // group, -1)
    result = torch.matmul(filters, unfolded).reshape(n, weight.shape[0], oh, ow)
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def regions_aligned(
    x: Tensor, rois: Tensor, batch: Tensor, size: tuple[int, int], scale: float, ratio: int, average: bool, half: bool
) -> Tensor:
    """RoI align (arXiv:1703.06870): mean or largest of samples taken bilinearly in each cell."""
    results: list[Tensor] = []
    height, width = x.shape[2:]
    for roi, index in zip(rois, batch.tolist(), strict=True):
        corner = roi * scale - (0.5 if half else 0.0)
        extent = corner[2:] - corner[:2]
        extent = extent if half else extent.clamp(min=1.0)
        counts = [ratio or math.ceil(float(extent[1 - axis]) / size[axis]) for axis in (0, 1)]
        places: list[Tensor] = []
        for axis, count in enumerate(counts):
            steps = (torch.arange(size[axis] * count, dtype=x.dtype, device=x.device) + 0.5) / count
            places.append(corner[1 - axis] + steps * extent[1 - axis] / size[axis])
        row = places[0].unsqueeze(1).expand(-1, places[1].numel()).reshape(1, -1)
        column = places[1].unsqueeze(0).expand(places[0].numel(), -1).reshape(1, -1)
        outside = (row < -1) | (row > height) | (column < -1) | (column > width)
        inner = (row.clamp(0, height - 1), column.clamp(0, width - 1))
        parts = corner_parts(x[index : index + 1], *inner) * ~outside
        shape = (x.shape[1], size[0], counts[0], size[1], counts[1])
        if average:
            results.append(parts.sum(0).reshape(shape).mean((2, 4)))
        else:  # the specification takes the largest of the four weighted corners, not of their sums
            results.append(parts.amax(0).reshape(shape).amax((2, 4)))
    if not results:
        return torch.zeros(0, x.shape[1], *size, dtype=x.dtype, device=x.device)
    return torch.stack(results)


def corner_parts(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The four weighted neighbours (4, channels, places) of places inside one image."""
    height, width = x.shape[2:]
    top, left = torch.floor(row), torch.floor(column)
    flat, parts = x[0].flatten(1), list[torch.Tensor]()
    for down in (0, 1):
        for right in (0, 1):
            r, c = top + down, left + right
            weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
            place = (r.clamp(max=height - 1) * width + c.clamp(max=width - 1)).to(torch.int64)
            parts.append(flat.index_select(1, place.reshape(-1)) * weight)
    return torch.stack(parts)


def regions_pooled(x: Tensor, rois: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """RoI max pooling (arXiv:1504.08083); an empty cell is 0."""
    results: list[Tensor] = []
    for roi in rois:
        index = int(roi[0])
        left, top, right, bottom = (math.floor(float(edge) * scale + 0.5) for edge in roi[1:])
        extent = (max(bottom - top + 1, 1), max(right - left + 1, 1))
        cells: list[Tensor] = []
        for i in range(size[0]):
            for j in range(size[1]):
                rows = slice(*clipped(i, extent[0] / size[0], top, x.shape[2]))
                columns = slice(*clipped(j, extent[1] / size[1], left, x.shape[3]))
                part = x[index, :, rows, columns].flatten(1)
                cells.append(part.amax(1) if part.numel() else torch.zeros_like(x[index, :, 0, 0]))
        results.append(torch.stack(cells, 1).reshape(x.shape[1], *size))
    return torch.stack(results)


def clipped(cell: int, step: float, start: int, size: int) -> tuple[int, int]:
    """First and last element of a cell, within the image."""
    return (
        min(max(math.floor(cell * step) + start, 0), size),
        min(max(math.ceil((cell + 1) * step) + start, 0), size),
    )
