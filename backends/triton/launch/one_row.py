"""Launching: tensors in, tensors out, the kernel's settings as given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..counters import counters
from ..early_starts import may_start_early
from ..kernels import attention_step as step
from ..kernels.gemv import DEFAULT, gemv


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
    w = w.contiguous()
    gate, scale = (None if t is None else t.contiguous() for t in (gate, scale))
    residual = None if residual is None else residual.expand(y.shape).contiguous()
    early = may_start_early(x) if early is None else early
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
        **options(warps, early),
    )
    return y


def launch_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    position: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    candidate: Sequence[int] | None,
    *,
    early: bool | None = None,
) -> Tensor:
    """A step of attention.

    Args:
        q: this and what follows as `library.attention_step` takes them.
        k: the new token's keys.
        v: the new token's values.
        cos: a row for each position.
        sin: a row for each position.
        position: the slot that is written.
        keys: the cache, written.
        values: the cache, written.
        scale: of the scores.
        candidate: parts of the cache, slots of a block, and warps.
        early: as for `launch_gemv`.
    """
    parts, slots, warps = candidate or step.default(keys.shape[3])
    _, heads, length, size = keys.shape
    shared = q.shape[1] // heads
    rows = max(16, shared)
    y = torch.empty_like(q, memory_format=torch.contiguous_format)
    early = may_start_early(q) if early is None else early
    partial = torch.empty(heads * parts * rows * (size + 2), dtype=torch.float32, device=q.device)
    kernel: Any = step.attention_step
    kernel[(heads, parts)](
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        cos.contiguous(),
        sin.contiguous(),
        position,
        keys,
        values,
        y,
        partial,
        counters(q.device, heads),
        scale,
        HEADS=heads,
        SHARED=shared,
        D=size,
        LENGTH=length,
        PARTS=parts,
        BL=slots,
        EARLY=early,
        **options(warps, early),
    )
    return y


def options(warps: int, early: int) -> dict[str, Any]:
    """What a launch says besides the kernel's operands."""
    return {"num_warps": warps, "launch_pdl": True} if early else {"num_warps": warps}
