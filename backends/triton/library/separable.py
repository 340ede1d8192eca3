"""The torch operator for a depthwise convolution and the one of one tap that reads it.

As in `library`: on the CPU it computes what the kernel does in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from .convolution import LIBRARY, convolved, convolved_by_channel, slid


@torch.library.custom_op("tamago::separable", mutates_args=(), device_types="cpu")
def separable(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """after(act(conv(first(depthwise convolution of x with w, plus bias), v) + shift) + residual).

    Args:
        x: (N, C, H, W), best channels last.
        w: (C, 1, KH, KW).
        bias: (C).
        v: (O, C, 1, 1).
        shift: (O).
        residual: as the result; None: left out.
        strides: of the depthwise convolution, down, right.
        pads: above, left, below, right.
        first: a name in `library.convolution.ACTIVATIONS`.
        activation: another.
        after: another.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`; None: as `LIBRARY`.
    """
    del candidate
    return separated(x, w, bias, v, shift, residual, strides, pads, first, activation, after)


def separated(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    after: str,
) -> Tensor:
    """What `separable` computes, in plain torch, on any device and in any precision."""
    deep = convolved_by_channel(x, w, bias, (), 0.0, strides, pads, first)
    return convolved(deep, v, shift, None, residual, (1, 1), (0, 0, 0, 0), activation, after)


@separable.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del bias, shift, residual, first, activation, after, candidate
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    return x.new_empty((x.shape[0], v.shape[0], height, width)).contiguous(memory_format=torch.channels_last)


@separable.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.convolution import fits
    from ..launch.separable import launch_separable

    operands = x, w, bias, v, shift, residual, strides, pads, first, activation, after
    results = x.shape[0] * v.shape[0] * prod(slid(x.shape[2:], w.shape[2:], strides, pads))
    if candidate is None or candidate[0] == LIBRARY or not fits(x, w, results) or v.dtype != x.dtype:
        return separated(*operands)
    return launch_separable(*operands, candidate)
