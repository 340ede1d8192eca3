"""Launching the kernel that normalises rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from ..early_starts import when
from ..kernels.layer_norm import LONGEST, layer_norm
from .convolution import fits as fits_in_half
from .one_row import options


def fits(x: Tensor, scale: Tensor) -> bool:
    """Whether the kernel is made for these operands: half precision, and rows that a program can hold."""
    return fits_in_half(x, scale, x.numel()) and x.numel() > 0 and x.shape[-1] <= LONGEST


def launch_layer_norm(
    x: Tensor, scale: Tensor, shift: Tensor | None, epsilon: float, centred: bool, candidate: Sequence[int]
) -> Tensor:
    """Rows, normalised.

    Args:
        x: this and what follows as `library.norm.layer_norm` takes them.
        scale: (K).
        shift: (K).
        epsilon: added to the variance.
        centred: LayerNorm; else RMSNorm.
        candidate: rows of a program, warps.
    """
    many, warps = candidate
    length = x.shape[-1]
    rows = x.numel() // length
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    programs = -(-rows // many)
    early = when(x, programs)
    kernel: Any = layer_norm
    kernel[(programs,)](
        x.contiguous(),
        scale.contiguous(),
        scale if shift is None else shift.contiguous(),
        y,
        rows,
        epsilon,
        LENGTH=length,
        CENTRED=centred,
        SHIFTED=shift is not None,
        BR=many,
        BC=triton.next_power_of_2(length),
        EARLY=early,
        **options(warps, early),
    )
    return y
