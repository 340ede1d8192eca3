"""Launching the kernel of attention over whole sequences: it reads its operands where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....compiler.torch_operators.attention import separated
from ..early_starts import when
from ..kernels import attention as flash
from ..library.attention import is_for
from ..library.convolution import HALVES
from .convolution import MOST_ELEMENTS
from .one_row import options


def fits(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
) -> bool:
    """Whether the kernel is made for these operands: half precision, heads of one size; and not too large."""
    q, k, v = _by_heads(query, key, value, heads)
    if q.dtype not in HALVES or not q.dtype == k.dtype == v.dtype or (causal and mask is not None):
        return False
    if not is_for(q.shape, k.shape, v.shape, scale):
        return False
    scores = (*q.shape[:3], k.shape[2])
    read = (q, k, v, *([] if mask is None else [mask.expand(scores)]))
    return max(q.numel(), *map(_reach, read)) < MOST_ELEMENTS  # what is written is no view that repeats


def launch_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
    candidate: Sequence[int],
) -> Tensor:
    """Attention over whole sequences.

    Args:
        query: this and what follows as `library.attention.attention` takes them, and `fits` allows.
        key: as wide as the queries' heads.
        value: of the same shape.
        mask: broadcasts to the scores.
        heads: of queries and of keys, where operands have three axes.
        causal: whether later keys are hidden.
        scale: of the scores, positive.
        candidate: queries and keys of a tile, warps, stages.

    Returns:
        As the queries; heads lie beside one another, whatever the order of the axes, since that is what they become.
    """
    rows, columns, warps, stages = candidate
    q, k, v = map(_dense, _by_heads(query, key, value, heads))
    batch, count, queries, size = q.shape
    keys = k.shape[2]
    laid = torch.empty((batch, queries, count, size), dtype=q.dtype, device=q.device)
    y = laid.transpose(1, 2)
    kind, seen = 0, q
    if mask is not None:
        kind = flash.BOOLEAN if mask.dtype == torch.bool else flash.ADDED
        seen = (mask.view(torch.uint8) if kind == flash.BOOLEAN else mask).expand(batch, count, queries, keys)
    strides = {
        f"{name}{axis}": t.stride(i)
        for name, t in zip("QKVMY", (q, k, v, seen, y), strict=True)
        for i, axis in enumerate("BHS")
    }
    programs = -(-queries // rows) * count * batch
    early = when(q, programs)
    kernel: Any = flash.attention
    kernel[(programs,)](
        q,
        k,
        v,
        seen,
        y,
        (size**-0.5 if scale is None else scale) * flash.LOG2E,
        HEADS=count,
        SHARED=count // k.shape[1],
        QUERIES=queries,
        KEYS=keys,
        SIZE=size,
        **strides,
        MK=seen.stride(3),
        CAUSAL=causal,
        MASK=kind,
        LOG2E=flash.LOG2E,
        BQ=rows,
        BK=columns,
        BD=flash.width_of(size),
        EARLY=early,
        num_stages=stages,
        **options(warps, early),
    )
    return laid.flatten(2) if query.dim() == 3 else y


def _by_heads(query: Tensor, key: Tensor, value: Tensor, heads: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    return separated(query, key, value, *heads) if query.dim() == 3 else (query, key, value)


def _dense(tensor: Tensor) -> Tensor:
    """As it is where the elements of a head lie beside one another."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _reach(tensor: Tensor) -> int:
    """How far the last element lies behind the first."""
    return sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
