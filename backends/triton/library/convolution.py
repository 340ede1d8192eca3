"""The torch operators for convolutions, with what is done to their results.

As in `library`: on the CPU they compute what the kernels do in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

HALVES = (torch.float16, torch.bfloat16)  # what tensor cores multiply, and so what the kernels are for
DEPTHWISE_SETTINGS = 6  # of a candidate's
LIBRARY = 0  # the first setting of a candidate that says: torch's own operators, cuDNN and cuBLAS
TMA = -1  # and one that says: the product whose tiles the copying engine fetches, its settings behind
WHOLE = -2  # the product whose programs hold whole rows, its settings behind
LT = -3  # cuBLASLt's product with both sums, the place of its algorithm behind
GROUPED = -4  # both products by groups of warps that walk by themselves, its settings behind

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    "Relu": torch.relu,
    "Relu6": functional.relu6,
    "Sigmoid": torch.sigmoid,
    "HardSigmoid": functional.hardsigmoid,
    "Silu": functional.silu,
    "HardSwish": functional.hardswish,
    "Gelu": functional.gelu,
    "GeluTanh": lambda x: functional.gelu(x, approximate="tanh"),
}


@torch.library.custom_op("tamago::convolution", mutates_args=(), device_types="cpu")
def convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """after(act(conv(x ⊙ scale, w) + bias) + residual); what is None is left out.

    Args:
        x: (N, C, H, W), best channels last.
        w: (O, C, KH, KW).
        bias: (O).
        scale: (N, C, 1, 1).
        residual: as the result.
        strides: down, right.
        pads: above, left, below, right.
        activation: a name in `ACTIVATIONS`.
        after: another.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`; None: defaults.
    """
    del candidate
    return convolved(x, w, bias, scale, residual, strides, pads, activation, after)


def convolved(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    after: str,
) -> Tensor:
    """What `convolution` computes, in plain torch, on any device and in any precision."""
    x = x if scale is None else x * scale
    down, right = strides
    x, pads = _padded(x, pads)
    before = [pads[0], pads[1]]
    if x.is_cuda and x.dtype in HALVES and (activation, after) in (("Relu", ""), ("", "Relu")):
        # cuDNN adds and rectifies in the same kernel.
        if residual is None:
            return torch.cudnn_convolution_relu(x, w, bias, [down, right], before, [1, 1], 1)
        if after and residual.shape == (x.shape[0], w.shape[0], *slid(x.shape[2:], w.shape[2:], strides, pads)):
            return torch.cudnn_convolution_add_relu(x, w, residual, 1.0, bias, [down, right], before, [1, 1], 1)
    y = functional.conv2d(x, w, bias, [down, right], before)
    y = ACTIVATIONS[activation](y)
    return ACTIVATIONS[after](y if residual is None else y + residual)


def _padded(x: Tensor, pads: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
    """Padding that differs between two ends is added first."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, pads
    return functional.pad(x, [left, right, top, bottom]), (0, 0, 0, 0)


@convolution.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del bias, scale, residual, activation, after, candidate
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    return x.new_empty((x.shape[0], w.shape[0], height, width)).contiguous(memory_format=torch.channels_last)


def slid(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> tuple[int, int]:
    """Height and width of a convolution's result."""
    height = (size[0] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
    return height, (size[1] + pads[1] + pads[3] - kernel[1]) // strides[1] + 1


def pointwise(w: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> bool:
    """Whether a convolution with a weight of this shape is a product of its pixels with a matrix."""
    return tuple(w[2:]) == (1, 1) and tuple(strides) == (1, 1) and not any(pads)


@convolution.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.convolution import fits, launch_convolution

    results = prod((x.shape[0], w.shape[0], *slid(x.shape[2:], w.shape[2:], strides, pads)))
    if candidate is None or candidate[0] == LIBRARY or not fits(x, w, results):
        return convolved(x, w, bias, scale, residual, strides, pads, activation, after)
    if candidate[0] == TMA:
        from ..launch.product import launch_fetched_convolution, may_fetch

        if scale is not None or not pointwise(w.shape, strides, pads) or not may_fetch(x, w):
            return convolved(x, w, bias, scale, residual, strides, pads, activation, after)
        return launch_fetched_convolution(x, w, bias, residual, activation, after, candidate)
    if candidate[0] == LT:
        from ..cublas_lt import launch_lt_convolution, may_ask

        fit = scale is None and pointwise(w.shape, strides, pads) and may_ask(x, residual, activation, after)
        found = launch_lt_convolution(x, w, bias, residual, activation, after, candidate) if fit else None
        return convolved(x, w, bias, scale, residual, strides, pads, activation, after) if found is None else found
    return launch_convolution(x, w, bias, scale, residual, strides, pads, activation, after, candidate)


@torch.library.custom_op("tamago::depthwise", mutates_args=(), device_types="cpu")
def depthwise(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """act(depthwise convolution of x with w, plus bias); or LayerNorm of its channels, which are then the last axis.

    Args:
        x: (N, C, H, W), best channels last.
        w: (C, 1, KH, KW).
        bias: (C).
        norm: the norm's scale and shift, (C) each; empty: no norm.
        epsilon: of the norm.
        strides: down, right.
        pads: above, left, below, right.
        activation: a name in `ACTIVATIONS`.
        candidate: as `convolution` takes it; with a norm that is a launch of its own, that one's after the first.
    """
    del candidate
    return convolved_by_channel(x, w, bias, norm, epsilon, strides, pads, activation)


def convolved_by_channel(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
) -> Tensor:
    """What `depthwise` computes, in plain torch, on any device and in any precision."""
    x, pads = _padded(x, pads)
    y = functional.conv2d(x, w, bias, list(strides), [pads[0], pads[1]], groups=w.shape[0])
    if len(norm) > 0:
        y = functional.layer_norm(y.permute(0, 2, 3, 1), [w.shape[0]], norm[0], norm[1], epsilon)
    return ACTIVATIONS[activation](y)


def outputs_last(w: Tensor) -> Tensor:
    """A weight (O, I, KH, KW) that lies in memory as (I, KH, KW, O), outputs last; as it is where it does."""
    order = (1, 2, 3, 0)
    return w if w.permute(order).is_contiguous() else w.permute(order).contiguous().permute(3, 0, 1, 2)


@depthwise.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del bias, epsilon, activation, candidate
    y = x.new_empty((x.shape[0], *slid(x.shape[2:], w.shape[2:], strides, pads), w.shape[0]))
    return y if len(norm) > 0 else y.permute(0, 3, 1, 2)


@depthwise.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.convolution import fits
    from ..launch.depthwise import launch_depthwise, launch_depthwise_then_norm

    results = prod((*x.shape[:2], *slid(x.shape[2:], w.shape[2:], strides, pads)))
    if candidate is None or candidate[0] == LIBRARY or not fits(x, w, results):
        return convolved_by_channel(x, w, bias, norm, epsilon, strides, pads, activation)
    first, second = candidate[:DEPTHWISE_SETTINGS], candidate[DEPTHWISE_SETTINGS:]
    operands = x, w, bias, norm, epsilon, strides, pads
    if not second:
        return launch_depthwise(*operands, activation, candidate)
    return ACTIVATIONS[activation](launch_depthwise_then_norm(*operands, first, second))
