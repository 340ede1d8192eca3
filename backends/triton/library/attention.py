"""The torch operator for attention over whole sequences. As in `library`: on the CPU it is plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ....compiler.torch_operators.attention import dot_product, separated
from .convolution import LIBRARY

SIZES = range(16, 257)  # of heads, that the kernel is for


@torch.library.custom_op("tamago::attention", mutates_args=(), device_types="cpu")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
    candidate: Sequence[int] | None,
) -> Tensor:
    """softmax(query·keyᵀ·scale + mask)·value, as ONNX's Attention has it.

    Args:
        query: (B, S, H·D) or (B, H, S, D).
        key: (B, L, G·D) or (B, G, L, D); G divides H.
        value: as the keys, but its heads may have another size.
        mask: broadcasts to (B, H, S, L); booleans, or what is added to the scores.
        heads: H and G, which operands of three axes need.
        causal: whether query i sees keys up to i only.
        scale: of the scores; None: one over the root of D.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`; None: torch's own.
    """
    del candidate
    return attended(query, key, value, mask, heads, causal, scale)


def attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
) -> Tensor:
    """What `attention` computes, as torch has it, on any device and in any precision."""
    packed = query.dim() == 3
    if packed:
        query, key, value = separated(query, key, value, *heads)
    grouped = query.shape[1] != key.shape[1]
    return dot_product(query, key, value, mask, causal, scale, grouped=grouped, packed=packed)


def is_for(q: Sequence[int], k: Sequence[int], v: Sequence[int], scale: float | None) -> bool:
    """Whether the kernel takes operands of these sizes, (B, heads, rows, D) each, and scores of this scale."""
    alike = tuple(k) == tuple(v) and (q[0], q[3]) == (k[0], k[3])
    there = min(prod(q), prod(k)) > 0 and q[1] % k[1] == 0
    return alike and there and q[3] in SIZES and (scale is None or scale > 0)


@attention.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
    candidate: Sequence[int] | None,
) -> Tensor:
    del key, mask, causal, scale, candidate
    if query.dim() == 4:
        return query.new_empty((*query.shape[:3], value.shape[3]))
    return query.new_empty((*query.shape[:2], value.shape[2] // heads[1] * heads[0]))


@attention.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    heads: Sequence[int],
    causal: bool,
    scale: float | None,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.attention import fits, launch_attention

    given = query, key, value, mask, heads, causal, scale
    if candidate is None or candidate[0] == LIBRARY or not fits(*given):
        return attended(*given)
    return launch_attention(*given, candidate)
