"""Fourier transforms, windows and mel filters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from .dtypes import torch_dtype
from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor

# window = Σ coefficient_k · cos(2πkn / N)
_WINDOWS = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@operator("DFT")
def dft(op: Operation, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """Discrete Fourier transform; complex numbers are pairs in the last axis."""
    if op.version < 20:
        where = op.attribute("axis", 1)
    else:
        known = op.number(2)
        where = -2 if axis is None else (op.call(int, axis) if known is None else int(known))
    known = op.number(1)
    size = None if length is None else (op.call(int, length) if known is None else int(known))
    return op.call(transformed, x, size, where, bool(op.attribute("inverse", 0)), bool(op.attribute("onesided", 0)))


@operator("STFT")
def stft(op: Operation, x: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
    """Fourier transforms of overlapping windowed frames."""
    known = op.number(1)
    hop = op.call(int, step) if known is None else int(known)
    known = op.number(3)
    size = None if length is None else (op.call(int, length) if known is None else int(known))
    return op.call(frames_transformed, x, hop, window, size, bool(op.attribute("onesided", 1)))


@operator(*_WINDOWS, creates=True)
def window(op: Operation, size: Tensor) -> Tensor:
    """A cosine window."""
    dtype = torch_dtype(op.attribute("output_datatype", 1))
    known = op.number(0)
    count = op.call(int, size) if known is None else int(known)
    return op.call(cosines, _WINDOWS[op.node.op_type], count, bool(op.attribute("periodic", 1)), dtype, op.device)


@operator("MelWeightMatrix", creates=True)
def mel_weight_matrix(op: Operation, bins: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Triangular filters, evenly spaced in mel."""
    return op.call(
        mel_filters, bins, length, rate, low, high, torch_dtype(op.attribute("output_datatype", 1)), op.device
    )


def transformed(x: Tensor, length: int | None, axis: int, inverse: bool, onesided: bool) -> Tensor:
    """Fourier transform along an axis of real (…, 1) or complex (…, 2) numbers."""
    axis = axis + x.dim() if axis < 0 else axis
    dtype = x.dtype
    wide = x if dtype in (torch.float32, torch.float64) else x.to(torch.float32)
    signal = wide[..., 0] if x.shape[-1] == 1 else torch.complex(wide[..., 0], wide[..., 1])
    if inverse and onesided:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1).to(dtype)
    result = torch.fft.ifft(signal, length, axis) if inverse else torch.fft.fft(signal, length, axis)
    if onesided:
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1)
    return torch.view_as_real(result).to(dtype)


def frames_transformed(x: Tensor, hop: int, window: Tensor | None, length: int | None, onesided: bool) -> Tensor:
    """Short-time Fourier transform: (batch, samples, 1 or 2) or (batch, samples) → (batch, frames, bins, 2)."""
    x = x.unsqueeze(-1) if x.dim() == 2 else x
    if length is None:
        length = x.shape[1] if window is None else window.shape[0]
    frames = x.unfold(1, length, hop).transpose(2, 3)  # (batch, frames, length, 1 or 2)
    if window is not None:
        frames = frames * window.to(x.dtype).reshape(-1, 1)
    return transformed(frames, length, 2, inverse=False, onesided=onesided)


def cosines(
    coefficients: tuple[float, ...], size: int, periodic: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """A sum of cosines over a window."""
    period = size if periodic else size - 1
    angle = torch.arange(size, dtype=torch.float64, device=device) * (2 * math.pi / period)
    total = torch.zeros_like(angle)
    for order, coefficient in enumerate(coefficients):
        total = total + coefficient * torch.cos(order * angle)
    return total.to(dtype)


def mel_filters(
    bins: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The matrix of the specification: edges are rounded down to whole frequency bins."""
    count, size = int(bins), int(length)
    spectrum = size // 2 + 1
    first, last = (2595 * math.log10(1 + float(edge) / 700) for edge in (low, high))
    step = (last - first) / (count + 2)
    hertz = [700 * (10 ** ((first + index * step) / 2595) - 1) for index in range(count + 2)]
    edges = [int((size + 1) * frequency // float(rate)) for frequency in hertz]
    filters = torch.zeros(spectrum, count, dtype=torch.float64)
    for index in range(count):
        left, centre, right = edges[index : index + 3]
        if centre == left:
            filters[centre, index] = 1
        for place in range(left, centre + 1 if centre > left else left):
            filters[place, index] = (place - left) / (centre - left)
        for place in range(centre, right):
            filters[place, index] = (right - place) / (right - centre)
    return filters.to(dtype).to(device)
