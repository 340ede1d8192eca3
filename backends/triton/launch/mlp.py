"""Launching the kernel of two products of many rows with an activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..counters import split_sums
from ..early_starts import when
from ..kernels.mlp import mlp
from ..library.mlp import takes
from ..widths import parts
from .convolution import fits
from .one_row import options


def fits_mlp(x: Tensor, w: Tensor, v: Tensor) -> bool:
    """Whether the kernel is made for these operands: half precision, rows not too wide, tensors not too large."""
    results = x.numel() // w.shape[1] * v.shape[0]
    return fits(x, w, results) and v.dtype == x.dtype and takes(w.shape[1], v.shape[0])


def launch_mlp(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    candidate: Sequence[int],
) -> Tensor:
    """Both products in one launch, and LayerNorm of the rows ahead where there is a norm.

    Args:
        x: this and what follows as `library.mlp.mlp` takes them.
        w: (H, K).
        b: (H).
        v: (O, H).
        c: (O).
        residual: as the result.
        norm: scale and shift, or nothing.
        epsilon: of the norm.
        activation: a name that `kernels.activations` knows.
        candidate: rows and hidden units of a tile, parts of the hidden units, warps, stages.
    """
    tile, block, split, warps, stages = candidate
    rows, (hidden, inner), out = prod(x.shape[:-1]), w.shape, v.shape[0]
    y = torch.empty((*x.shape[:-1], out), dtype=x.dtype, device=x.device)
    tiles = -(-rows // tile)
    (k0, k1), (o0, o1) = parts(inner), parts(out)
    gamma, beta = (t.contiguous() for t in norm) if len(norm) > 0 else (x, x)
    early = when(x, tiles * split)
    kernel: Any = mlp
    kernel[(tiles, split)](
        x.contiguous(),
        w.contiguous(),
        b.contiguous(),
        v.contiguous(),
        c.contiguous(),
        c if residual is None else residual.expand(y.shape).contiguous(),
        y,
        *split_sums(x.device, tiles, tile * (o0 + o1), split),
        gamma,
        beta,
        epsilon,
        ROWS=rows,
        K=inner,
        H=hidden,
        O=out,
        K0=k0,
        K1=k1,
        O0=o0,
        O1=o1,
        RESIDUAL=residual is not None,
        NORMED=len(norm) > 0,
        ACTIVATION=activation,
        BM=tile,
        BH=block,
        SPLIT=split,
        EARLY=early,
        num_stages=stages,
        **options(warps, early),
    )
    return y
