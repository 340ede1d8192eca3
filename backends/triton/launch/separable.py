"""Launching the kernel of a depthwise convolution and the one of one tap that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..counters import split_sums
from ..kernels import separable as kernels
from ..library.convolution import outputs_last, slid


def launch_separable(
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
    candidate: Sequence[int],
) -> Tensor:
    """Both convolutions in one kernel; the result lies channels last.

    Args:
        x: this and what follows as `library.separable.separable` takes them.
        w: (C, 1, KH, KW).
        bias: (C).
        v: (O, C, 1, 1).
        shift: (O).
        residual: as the result, or None.
        strides: down, right.
        pads: above, left, below, right.
        first: a name that `kernels.activations` knows, or "".
        activation: another.
        after: another.
        candidate: results of a rectangle to the right and downwards, rectangles, inner elements, columns of a
            product, products, parts of the inner dimension, warps, stages.
    """
    right, down, runs, inner, columns, parts, split, warps, stages = candidate
    n, channels, above, across = x.shape
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    out = v.shape[0]
    last = torch.channels_last
    y = torch.empty((n, out, height, width), dtype=x.dtype, device=x.device, memory_format=last)
    if residual is not None:
        residual = residual.expand(y.shape).contiguous(memory_format=last)
    rectangles = n * -(-height // down) * -(-width // right)
    tiles = -(-rectangles // runs) * -(-out // (columns * parts))
    kernel: Any = kernels.separable
    kernel[(tiles, split)](
        x.contiguous(memory_format=last),
        outputs_last(w),
        bias.contiguous(),
        v.reshape(out, channels).contiguous(),
        shift.contiguous(),
        shift if residual is None else residual,
        y,
        *split_sums(x.device, tiles, parts * columns * right * down * runs, split),
        N=n,
        C=channels,
        O=out,
        H=above,
        W=across,
        HO=height,
        WO=width,
        KH=w.shape[2],
        KW=w.shape[3],
        SH=strides[0],
        SW=strides[1],
        PT=pads[0],
        PL=pads[1],
        FIRST=first,
        ACTIVATION=activation,
        RESIDUAL=residual is not None,
        AFTER=after,
        RIGHT=right,
        DOWN=down,
        BM=runs,
        BK=inner,
        BN=columns,
        PARTS=parts,
        SPLIT=split,
        ASSEMBLED=x.is_cuda,
        num_warps=warps,
        num_stages=stages,
    )
    return y
