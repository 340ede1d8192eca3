"""Where the elements of a resized axis come from: computed here once, exactly, instead of by each thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One axis that is resized.

    Args:
        size: of the input.
        result: of the output.
        scale: output to input, as the model says it.
        start, end: the part that is cropped (tf_crop_and_resize), as fractions.
    """

    size: int
    result: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def is_read_two_ways(axis: Axis, mode: str) -> bool:
    """Whether ONNX Runtime and PyTorch divide by a whole size where the standard divides by the part that scales say.

    Five elements at a scale of 1.5 are seven, or seven and a half.
    """
    part = abs(axis.scale * axis.size - axis.result)
    return mode in ("align_corners", "tf_crop_and_resize") and part > 1e-5 * axis.result


def coordinates(axis: Axis, mode: str) -> Floats:
    """The place in the input of each element of the output."""
    i, width = np.arange(axis.result, dtype=np.float64), axis.scale * axis.size
    if mode == "align_corners":
        return i * 0 if width == 1 else i * (axis.size - 1) / (width - 1)
    if mode == "asymmetric":
        return i / axis.scale
    if mode == "tf_crop_and_resize":
        part = (axis.end - axis.start) * (axis.size - 1)
        return axis.start * (axis.size - 1) + (part / 2 + i * 0 if width == 1 else i * part / (width - 1))
    if mode == "pytorch_half_pixel" and width == 1:
        return i * 0 - 0.5
    found = (i + 0.5) / axis.scale - 0.5
    if mode == "half_pixel_symmetric":
        found += axis.size / 2 * (1 - axis.result / width)
    return found


def nearest(axis: Axis, mode: str, rounding: str) -> Indices:
    """The index in the input of each element of the output."""
    x = coordinates(axis, mode)
    found = {
        "round_prefer_floor": lambda: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda: np.floor(x + 0.5),
        "floor": lambda: np.floor(x),
        "ceil": lambda: np.ceil(x),
    }[rounding]()
    return np.clip(found, 0, axis.size - 1).astype(np.int64)


def weights(
    axis: Axis, mode: str, kind: str, cubic: float, antialias: bool, inside_only: bool
) -> tuple[Indices, NDArray[np.float32]]:
    """The first index and the weights of what each element of the output is the sum of; indices beyond are the edge's.

    Args:
        axis: which.
        mode: of coordinates.
        kind: linear or cubic.
        cubic: the coefficient of cubic interpolation.
        antialias: whether to widen the window where the output is smaller.
        inside_only: whether what lies beyond the edge counts nothing.

    Returns:
        Indices [output], weights [taps, output].
    """
    x = coordinates(axis, mode)
    shrink = min(axis.scale, 1.0) if antialias else 1.0
    reach = 1 if kind == "linear" else 2
    below = int(np.floor(-reach / shrink)) + 1  # of the first tap, from the element to the left of x
    first = np.floor(x).astype(np.int64) + below
    ratio = x - np.floor(x)
    distance = np.abs((np.arange(below, reach + 1 - below - (reach - 1))[:, None] - ratio) * shrink)
    found = np.clip(1 - distance, 0, None) if kind == "linear" else _cubic(distance, cubic)
    if inside_only:
        index = first + np.arange(len(found))[:, None]
        found = np.where((index >= 0) & (index < axis.size), found, 0.0)
    if antialias or inside_only:
        found = found / found.sum(0)
    if mode == "tf_crop_and_resize":
        found = np.where((x >= 0) & (x <= axis.size - 1), found, 0.0)
    return first, found.astype(np.float32)


def _cubic(x: Floats, a: float) -> Floats:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
