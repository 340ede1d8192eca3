"""Resize and Upsample: separable interpolation along each axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@operator("Upsample")
def upsample(op: Operation, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """Resize by scales, with asymmetric coordinates."""
    factors = op.numbers("scales") if scales is None else known_floats(op, 1)
    mode = op.attribute("mode", "nearest")
    style = Style(mode="nearest" if mode == "nearest" else "linear", coordinates="asymmetric", rounding="floor")
    return interpolated(op, x, scales if factors is None else factors, None, style)


@operator("Resize")
def resize(
    op: Operation, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Resize by scales or to sizes."""
    if op.version < 11:
        style = Style(op.attribute("mode", "nearest"), coordinates="asymmetric", rounding="simple")
        factors = known_floats(op, 1)
        return interpolated(op, x, roi if factors is None else factors, None, style)
    style = Style(
        mode=op.attribute("mode", "nearest"),
        coordinates=op.attribute("coordinate_transformation_mode", "half_pixel"),
        rounding=op.attribute("nearest_mode", "round_prefer_floor"),
        cubic=op.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(op.attribute("exclude_outside", 0)),
        extrapolation=op.attribute("extrapolation_value", 0.0),
        antialias=bool(op.attribute("antialias", 0)),
        policy=op.attribute("keep_aspect_ratio_policy", "stretch"),
    )
    if style.coordinates != "tf_crop_and_resize":
        roi = None
    empty = op.constant(2)
    if scales is not None and not (empty is not None and empty.numel() == 0):
        factors = known_floats(op, 2)
        return interpolated(op, x, scales if factors is None else factors, None, style, roi)
    return interpolated(op, x, None, None if sizes is None else op.sizes(3, sizes), style, roi)


@dataclass(frozen=True)
class Style:
    """How to interpolate; the attributes of `Resize` under shorter names."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False
    policy: str = "stretch"

    def plain(self) -> tuple[Any, ...]:
        """The fields as an FX argument."""
        return (
            self.mode,
            self.coordinates,
            self.rounding,
            self.cubic,
            self.exclude_outside,
            self.extrapolation,
            self.antialias,
            self.policy,
        )


def known_floats(op: Operation, index: int) -> list[float] | None:
    """Numbers of an input, when known now."""
    constant = op.constant(index)
    return None if constant is None else constant.reshape(-1).tolist()


def interpolated(op: Operation, x: Tensor, scales: Any, sizes: Any, style: Style, roi: Tensor | None = None) -> Tensor:
    """One of torch's own interpolations where it is the same function, else the general one."""
    axes = op.numbers("axes")
    plain = None if roi is not None else torch_interpolation(op.rank(0), op.floating(0), scales, sizes, axes, style)
    if plain is not None:
        return functional.interpolate(x, **plain)
    return op.call(resized, x, scales, sizes, axes, roi, style.plain())


def torch_interpolation(
    rank: int | None, floating: bool | None, scales: Any, sizes: Any, axes: list[int] | None, style: Style
) -> dict[str, Any] | None:
    """Arguments for `torch.nn.functional.interpolate`, when it computes exactly this."""
    listed = scales if sizes is None else sizes
    if (
        rank not in _LINEAR
        or not floating
        or not isinstance(listed, list)
        or style.antialias
        or style.policy != "stretch"
    ):
        return None
    if axes is not None:
        if sorted(axis % rank for axis in axes) != list(range(2, rank)):
            return None
        order = sorted(range(len(axes)), key=lambda index: axes[index] % rank)
        listed = [listed[index] for index in order]
    elif sizes is not None or len(listed) != rank or any(factor != 1.0 for factor in listed[:2]):
        return None  # sizes of batch and channels might ask for a resize there as well
    else:
        listed = listed[2:]
    whole = sizes is None and all(float(factor).is_integer() for factor in listed)
    size = {"size": listed} if sizes is not None else {"scale_factor": listed}
    if style.mode == "nearest":
        half = style.coordinates in ("half_pixel", "half_pixel_symmetric") and style.rounding.startswith("round")
        same = half or (style.coordinates == "asymmetric" and style.rounding in ("floor", "simple"))
        return {**size, "mode": "nearest"} if whole and same else None
    if style.mode == "cubic" and (rank != 4 or style.cubic != -0.75 or style.exclude_outside):
        return None
    name = "bicubic" if style.mode == "cubic" else _LINEAR[rank]
    if style.coordinates == "align_corners" and (whole or sizes is not None):
        return {**size, "mode": name, "align_corners": True}
    if style.coordinates == "half_pixel" or (style.coordinates == "pytorch_half_pixel" and whole and min(listed) > 1):
        return {**size, "mode": name, "align_corners": False}
    return None


def resized(
    x: Tensor,
    scales: Tensor | list[float] | None,
    sizes: list[int] | None,
    axes: list[int] | None,
    roi: Tensor | None,
    fields: tuple[Any, ...],
) -> Tensor:
    """Interpolation along one axis after the other."""
    style = Style(*fields)
    where = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    factors = scales.tolist() if isinstance(scales, torch.Tensor) else scales
    bounds = None if roi is None else [float(bound) for bound in roi.reshape(-1).tolist()]
    if not factors:
        assert sizes is not None
        factors, targets = factors_of(x, where, [int(size) for size in sizes], style.policy)
    else:
        targets = [math.floor(x.shape[axis] * factor) for axis, factor in zip(where, factors, strict=True)]
    dtype = x.dtype
    if not x.is_floating_point() and style.mode != "nearest":
        x = x.to(torch.float32)
    outside: list[tuple[int, Tensor]] = []
    for index, (axis, factor, target) in enumerate(zip(where, factors, targets, strict=True)):
        if target == x.shape[axis] and factor == 1.0 and bounds is None:
            continue
        region = None if bounds is None else (bounds[index], bounds[index + len(where)])
        place = coordinates(x.shape[axis], target, factor, style.coordinates, region)
        if region is not None:
            outside.append((axis, (place < 0) | (place > x.shape[axis] - 1)))
        x = interpolate_axis(x, axis, place, factor, style)
    for axis, mask in outside:
        view = [1] * x.dim()
        view[axis] = -1
        x = torch.where(mask.to(x.device).reshape(view), torch.full_like(x, style.extrapolation), x)
    return x.to(dtype)


def factors_of(x: Tensor, axes: list[int], sizes: list[int], policy: str) -> tuple[list[float], list[int]]:
    """Scale of each axis for the sizes asked for; a policy keeps the aspect ratio."""
    factors = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return factors, sizes
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(axes), [math.floor(factor * x.shape[axis] + 0.5) for axis in axes]


def coordinates(size: int, target: int, factor: float, mode: str, region: tuple[float, float] | None) -> Tensor:
    """Where each output element lies on the input axis."""
    # float32 as in other runtimes: rounding to the nearest element depends on it
    y = torch.arange(target, dtype=torch.float32)
    width = factor * size
    if mode == "align_corners":
        return torch.zeros_like(y) if width == 1 else y * (size - 1) / (width - 1)
    if mode == "asymmetric":
        return y / factor
    if mode == "tf_crop_and_resize" and region is not None:
        start, end = region
        if width == 1:
            return torch.full_like(y, (start + end) * (size - 1) / 2)
        return start * (size - 1) + y * (end - start) * (size - 1) / (width - 1)
    if mode == "pytorch_half_pixel" and width == 1:
        return torch.full_like(y, -0.5)
    half = (y + 0.5) / factor - 0.5
    if mode == "half_pixel_symmetric":
        half = half + size / 2 * (1 - target / width)
    return half


def interpolate_axis(x: Tensor, axis: int, place: Tensor, factor: float, style: Style) -> Tensor:
    """Interpolation along one axis at the given places."""
    last = x.shape[axis] - 1
    if style.mode == "nearest":
        index = nearest(place, style.rounding, factor).clamp(0, last)
        return x.index_select(axis, index.to(x.device))
    base = torch.floor(place)
    ratio = (place - base).unsqueeze(1)
    offsets, weights = taps(ratio, min(factor, 1.0) if style.antialias else 1.0, style)
    index = base.to(torch.int64).unsqueeze(1) + offsets
    if style.exclude_outside:
        weights = torch.where((index < 0) | (index > last), torch.zeros_like(weights), weights)
    if style.exclude_outside or style.antialias:
        weights = weights / weights.sum(1, keepdim=True)
    index = index.clamp(0, last).to(x.device)
    view = [1] * x.dim()
    view[axis] = -1
    weights = weights.to(x.dtype).to(x.device)
    result = x.index_select(axis, index[:, 0]) * weights[:, 0].reshape(view)
    for tap in range(1, index.shape[1]):
        result = result + x.index_select(axis, index[:, tap]) * weights[:, tap].reshape(view)
    return result


def nearest(place: Tensor, rounding: str, factor: float) -> Tensor:
    """The element that stands for each place."""
    if rounding == "round_prefer_floor":
        index = torch.ceil(place - 0.5)
    elif rounding == "round_prefer_ceil":
        index = torch.floor(place + 0.5)
    elif rounding == "ceil" or (rounding == "simple" and factor < 1):  # opset 10 left it open; ONNX Runtime does this
        index = torch.ceil(place)
    else:
        index = torch.floor(place)
    return index.to(torch.int64)


def taps(ratio: Tensor, scale: float, style: Style) -> tuple[Tensor, Tensor]:
    """Offsets of the neighbours, and the weight of each; a scale below 1 widens the filter."""
    reach = 2 if style.mode == "cubic" else 1
    first = math.floor(-reach / scale) + 1
    offsets = torch.arange(first, 2 - first)
    distance = ((offsets - ratio) * scale).abs()
    if style.mode != "cubic":
        return offsets, (1 - distance).clamp(min=0)
    a = style.cubic
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return offsets, torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
