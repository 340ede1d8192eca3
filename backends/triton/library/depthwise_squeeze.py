"""The torch operator for a depthwise convolution with squeeze-and-excitation of its result.

The convolution's programs leave what their results sum up to, so that the means cost no pass over them. As in
`library`: on the CPU it computes what the kernels do in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from .convolution import DEPTHWISE_SETTINGS, LIBRARY, convolved_by_channel, slid
from .squeeze import excited


@torch.library.custom_op("tamago::depthwise_squeeze", mutates_args=(), device_types="cpu")
def depthwise_squeeze(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    c: Tensor,
    u: Tensor,
    d: Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Two results: y = first(depthwise convolution of x, plus bias), gate(u·activation(v·m + c) + d), m y's means.

    Args:
        x: (N, C, H, W), best channels last.
        w: (C, 1, KH, KW).
        bias: (C).
        v: (S, C, 1, 1).
        c: (S).
        u: (C, S, 1, 1).
        d: (C).
        strides: down, right.
        pads: above, left, below, right.
        first: a name in `library.convolution.ACTIVATIONS`.
        activation: another.
        gate: another.
        candidate: settings of the convolution's kernel, then of squeeze-and-excitation's, or `LIBRARY`; None: that.
    """
    del candidate
    return weighed(x, w, bias, v, c, u, d, strides, pads, first, activation, gate)


def weighed(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    c: Tensor,
    u: Tensor,
    d: Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    gate: str,
) -> tuple[Tensor, Tensor]:
    """What `depthwise_squeeze` computes, in plain torch, on any device and in any precision."""
    y = convolved_by_channel(x, w, bias, (), 0.0, strides, pads, first)
    return y, excited(y, v, c, u, d, activation, gate)


@depthwise_squeeze.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    c: Tensor,
    u: Tensor,
    d: Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    del bias, v, c, u, d, first, activation, gate, candidate
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    y = x.new_empty((x.shape[0], height, width, w.shape[0])).permute(0, 3, 1, 2)
    return y, x.new_empty((x.shape[0], w.shape[0], 1, 1))


@depthwise_squeeze.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    c: Tensor,
    u: Tensor,
    d: Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    gate: str,
    candidate: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    from ..launch.convolution import fits
    from ..launch.depthwise import launch_depthwise_squeeze
    from ..launch.squeeze import fits as fits_squeezed

    operands = x, w, bias, v, c, u, d, strides, pads, first, activation, gate
    results = prod((*x.shape[:2], *slid(x.shape[2:], w.shape[2:], strides, pads)))
    alike = v.dtype == u.dtype == x.dtype
    fitting = alike and fits(x, w, results) and fits_squeezed(x, v.shape[0])
    if candidate is None or candidate[0] == LIBRARY or not fitting:
        return weighed(*operands)
    return launch_depthwise_squeeze(*operands, candidate[:DEPTHWISE_SETTINGS], candidate[DEPTHWISE_SETTINGS:])
