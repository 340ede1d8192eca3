"""Launching squeeze-and-excitation, and means over pixels; they wait for the kernel ahead, as convolutions do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..counters import counters
from ..kernels import squeeze_excite as kernels
from ..library.convolution import outputs_last
from ..library.squeeze import WIDEST
from .convolution import fits as fits_in_half


def fits(x: Tensor, squeezed: int = 0) -> bool:
    """Whether the kernels are made for these pictures, in half precision and not too large, and for the small layer."""
    return fits_in_half(x, x, 0) and x.numel() > 0 and squeezed <= WIDEST


def launch_squeeze_excite(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    activation: str,
    gate: str,
    candidate: Sequence[int],
) -> Tensor:
    """Squeeze-and-excitation.

    Args:
        x: this and what follows as `library.squeeze.squeeze_excite` takes them.
        w: (S, C, 1, 1).
        b: (S).
        v: (C, S, 1, 1).
        c: (C).
        activation: a name that `kernels.activations` knows.
        gate: another.
        candidate: pixels and channels of a tile, slices of a picture's pixels, warps, launches.
    """
    laid = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1, 2)
    return launch_excite(laid, x.shape[2] * x.shape[3], w, b, v, c, activation, gate, candidate)


def launch_excite(
    sums: Tensor,
    count: int,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    activation: str,
    gate: str,
    candidate: Sequence[int],
) -> Tensor:
    """Squeeze-and-excitation of pictures, or of what parts of them sum up to.

    Args:
        sums: (N, parts, C); a pixel is a part too.
        count: pixels of a picture.
        w: this and what follows as for `launch_squeeze_excite`.
        b: (S).
        v: (C, S, 1, 1).
        c: (C).
        activation: a name that `kernels.activations` knows.
        gate: another.
        candidate: its pixels are parts.
    """
    rows, block, slices, warps, launches = candidate
    n, pixels, channels = sums.shape
    squeezed = w.shape[0]
    blocks, small = -(-channels // block), kernels.width(squeezed)
    y = torch.empty((n, channels, 1, 1), dtype=w.dtype, device=w.device)
    partial = torch.empty((n * slices * blocks * small,), dtype=torch.float32, device=w.device)
    second = b.contiguous(), outputs_last(v), c.contiguous(), y
    sizes: dict[str, Any] = {"C": channels, "S": squeezed, "ACTIVATION": activation, "GATE": gate, "BS": small}
    kernel: Any = kernels.squeeze_excite
    kernel[(n, slices, blocks)](
        sums,
        w.contiguous(),
        *second,
        partial,
        counters(w.device, n),
        PIXELS=pixels,
        COUNT=count,
        SLICES=slices,
        SHARE=-(-pixels // slices),
        BP=rows,
        BC=block,
        BE=kernels.expanded(channels, small, warps),
        APART=launches > 1,
        num_warps=warps,
        **sizes,
    )
    if launches > 1:
        each = kernels.apart(n, channels, small)
        excite: Any = kernels.excite
        excite[(n, -(-channels // each))](partial, *second, PARTS=slices * blocks, BE=each, num_warps=4, **sizes)
    return y


def launch_mean_pixels(x: Tensor, keep: bool, candidate: Sequence[int]) -> Tensor:
    """Means over pixels.

    Args:
        x: this and what follows as `library.squeeze.mean_pixels` takes them.
        keep: whether the axes stay.
        candidate: as for `launch_squeeze_excite`.
    """
    rows, block, slices, warps, _ = candidate
    n, channels, height, across = x.shape
    blocks = -(-channels // block)
    y = torch.empty((n, channels, 1, 1) if keep else (n, channels), dtype=x.dtype, device=x.device)
    kernel: Any = kernels.mean_pixels
    kernel[(n, slices, blocks)](
        x.contiguous(memory_format=torch.channels_last),
        y,
        torch.empty((n * blocks * slices * block,), dtype=torch.float32, device=x.device),
        counters(x.device, n * blocks),
        PIXELS=height * across,
        C=channels,
        SLICES=slices,
        SHARE=-(-height * across // slices),
        BP=rows,
        BC=block,
        num_warps=warps,
    )
    return y
