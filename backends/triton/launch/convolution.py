"""Launching the kernels of convolutions and of products of many rows; results lie channels last."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..counters import split_sums
from ..early_starts import when
from ..kernels import convolution as gathered
from ..library.convolution import HALVES, slid
from .one_row import options

MOST_ELEMENTS = 1 << 31  # places in memory are 32-bit numbers in these kernels


def fits(x: Tensor, w: Tensor, results: int) -> bool:
    """Whether the kernels are made for these operands: half precision, for the tensor cores; and not too large."""
    return x.dtype in HALVES and x.dtype == w.dtype and max(x.numel(), results) < MOST_ELEMENTS


def launch_convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> Tensor:
    """A convolution as one matrix product.

    Args:
        x: this and what follows as `library.convolution.convolution` takes them.
        w: (O, C, KH, KW).
        bias: (O).
        scale: (N, C, 1, 1).
        residual: as the result.
        strides: down, right.
        pads: above, left, below, right.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: pixels, channels and inner elements of a tile, parts of the inner dimension, warps, stages.
    """
    n, channels, *_ = x.shape
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    y = channels_last(x, (n, w.shape[0], height, width))
    if not _dense(x):
        x = x.contiguous(memory_format=torch.channels_last)
    geometry = {
        "H": x.shape[2],
        "W": x.shape[3],
        "HO": height,
        "WO": width,
        "KH": w.shape[2],
        "KW": w.shape[3],
        "SH": strides[0],
        "SW": strides[1],
        "PT": pads[0],
        "PL": pads[1],
        "XN": x.stride(0),
        "XC": x.stride(1),
        "XH": x.stride(2),
        "XW": x.stride(3),
    }
    w = w.contiguous(memory_format=torch.channels_last)
    scale = None if scale is None else scale.reshape(n, channels).contiguous()
    if residual is not None:
        residual = residual.expand(y.shape).contiguous(memory_format=torch.channels_last)
    _launch(x, w, bias, scale, residual, y, n * height * width, geometry, activation, after, candidate)
    return y


def launch_affine(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> Tensor:
    """A product of many rows with a matrix: a convolution of one tap.

    Args:
        x: this and what follows as `library.convolution.affine` takes them.
        w: (N, K).
        bias: (N).
        residual: as the result.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: as for `launch_convolution`.
    """
    rows = prod(x.shape[:-1])
    y = torch.empty((*x.shape[:-1], w.shape[0]), dtype=x.dtype, device=x.device)
    x, w = x.contiguous(), w.contiguous()
    residual = None if residual is None else residual.expand(y.shape).contiguous()
    ones = dict.fromkeys(("H", "W", "HO", "WO", "KH", "KW", "SH", "SW"), 1)
    geometry = ones | {"PT": 0, "PL": 0, "XN": w.shape[1], "XC": 1, "XH": 0, "XW": 0}
    _launch(x, w, bias, None, residual, y, rows, geometry, activation, after, candidate)
    return y


def _launch(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    residual: Tensor | None,
    y: Tensor,
    pixels: int,
    geometry: dict[str, int],
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> None:
    rows, columns, inner, split, warps, stages = candidate
    tiles = -(-pixels // rows) * -(-w.shape[0] // columns)
    early = when(x, tiles * split)
    kernel: Any = gathered.convolution
    kernel[(tiles, split)](
        x,
        w,
        bias.contiguous(),
        bias if scale is None else scale,
        bias if residual is None else residual,
        y,
        *split_sums(x.device, tiles, rows * columns, split),
        PIXELS=pixels,
        O=w.shape[0],
        C=w.shape[1],
        **geometry,
        SCALED=scale is not None,
        RESIDUAL=residual is not None,
        ACTIVATION=activation,
        AFTER=after,
        BM=rows,
        BN=columns,
        BK=inner,
        SPLIT=split,
        GROUP=gathered.GROUP,
        EARLY=early,
        num_stages=stages,
        **options(warps, early),
    )


def channels_last(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor like x of this shape, channels last in memory."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _dense(x: Tensor) -> bool:
    """Whether x lies in memory in either order of its axes, as the kernel can read it where it is."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
