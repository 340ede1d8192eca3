"""The torch operators for squeeze-and-excitation, and for means over pixels.

As in `library`: on the CPU they compute what the kernels do in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .convolution import ACTIVATIONS, LIBRARY

SQUEEZE_SETTINGS = 5  # of a candidate's
WIDEST = 256  # small layer that the kernels are made for


@torch.library.custom_op("tamago::squeeze_excite", mutates_args=(), device_types="cpu")
def squeeze_excite(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """gate(v·activation(w·m + b) + c), m the mean of x over its pixels: (N, C, 1, 1).

    Args:
        x: (N, C, H, W), best channels last.
        w: (S, C, 1, 1).
        b: (S).
        v: (C, S, 1, 1), best as `outputs_last` lays it out.
        c: (C).
        activation: a name in `ACTIVATIONS`.
        gate: another.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`; None: `LIBRARY`.
    """
    del candidate
    return excited(x, w, b, v, c, activation, gate)


def excited(x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor, activation: str, gate: str) -> Tensor:
    """What `squeeze_excite` computes, in plain torch, on any device and in any precision."""
    small = ACTIVATIONS[activation](functional.conv2d(torch.mean(x, (2, 3), True), w, b))
    return ACTIVATIONS[gate](functional.conv2d(small, v, c))


@squeeze_excite.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del w, b, c, activation, gate, candidate
    return x.new_empty((x.shape[0], v.shape[0], 1, 1))


@squeeze_excite.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.squeeze import fits, launch_squeeze_excite

    alike = w.dtype == v.dtype == x.dtype
    if candidate is None or candidate[0] == LIBRARY or not alike or not fits(x, w.shape[0]):
        return excited(x, w, b, v, c, activation, gate)
    return launch_squeeze_excite(x, w, b, v, c, activation, gate, candidate)


@torch.library.custom_op("tamago::mean_pixels", mutates_args=(), device_types="cpu")
def mean_pixels(x: Tensor, keep: bool, candidate: Sequence[int] | None) -> Tensor:
    """The mean over the pixels: (N, C, 1, 1), or (N, C).

    Args:
        x: (N, C, H, W), best channels last.
        keep: whether the axes stay.
        candidate: as `squeeze_excite` takes it.
    """
    del candidate
    return torch.mean(x, (2, 3), keep)


@mean_pixels.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(x: Tensor, keep: bool, candidate: Sequence[int] | None) -> Tensor:
    del candidate
    return x.new_empty((*x.shape[:2], 1, 1) if keep else x.shape[:2])


@mean_pixels.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(x: Tensor, keep: bool, candidate: Sequence[int] | None) -> Tensor:
    from ..launch.squeeze import fits, launch_mean_pixels

    # What does not lie channels last would have to be copied first, and settings were measured without that.
    laid = x.is_contiguous(memory_format=torch.channels_last)
    if candidate is None or candidate[0] == LIBRARY or not laid or not fits(x):
        return torch.mean(x, (2, 3), keep)
    return launch_mean_pixels(x, keep, candidate)
