"""Launching: tensors in, tensors out, the kernel's settings as given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .kernels.gemv import DEFAULT, gemv


def launch_gemv(
    x: Tensor,
    w: Tensor,
    gate: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
    *,
    early: bool | None = None,
) -> Tensor:
    """One row times a matrix.

    Args:
        x: one row of K; this and what follows as `library.linear` takes them.
        w: (N, K).
        gate: (N, K).
        scale: (K).
        residual: broadcasts to (…, N).
        epsilon: of the norm.
        activation: a name that `kernels.activations` knows, or "".
        candidate: rows and columns of a tile, and warps.
        early: whether the kernel may start before the one ahead of it has ended (compute capability 9.0 on).
    """
    rows, columns, warps = candidate or DEFAULT
    n, k = w.shape
    y = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    if residual is not None and residual.shape != y.shape:
        residual = residual.expand(y.shape).contiguous()
    if early is None:
        early = x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0)
    options = {"num_warps": warps, "launch_pdl": True} if early else {"num_warps": warps}
    kernel: Any = gemv
    kernel[(-(-n // rows),)](
        x.contiguous(),
        w,
        w if gate is None else gate,
        w if scale is None else scale,
        w,
        w if residual is None else residual,
        y,
        epsilon,
        N=n,
        K=k,
        NORM=scale is not None,
        GATED=gate is not None,
        BIAS=False,
        RESIDUAL=residual is not None,
        ACTIVATION=activation,
        BN=rows,
        BK=columns,
        EARLY=early,
        **options,
    )
    return y
