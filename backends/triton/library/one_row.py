"""The torch operators that stand for generated kernels, so that torch.compile, export and CUDA graphs take them.

On the CPU they compute what the kernels do in plain torch: that is their meaning in torch's terms, and what makes an FX
program testable where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.library.custom_op("tamago::linear", mutates_args=(), device_types="cpu")
def linear(
    x: Tensor,
    w: Tensor,
    gate: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """act(n·wᵀ) ⊙ n·gateᵀ + residual, n = RMSNorm(x)·scale; what is None is left out.

    Args:
        x: (…, K).
        w: (N, K), row by row.
        gate: (N, K).
        scale: (K), of the norm in front.
        residual: broadcasts to (…, N).
        epsilon: of the norm.
        activation: "Silu" or "".
        candidate: the kernel's settings, as `tune` chose them; None: its defaults.
    """
    del candidate
    return meaning(x, w, gate, scale, residual, epsilon, activation)


def meaning(
    x: Tensor,
    w: Tensor,
    gate: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
) -> Tensor:
    """What `linear` computes, in plain torch, on any device and in any precision."""
    n = x if scale is None else torch.nn.functional.rms_norm(x, [x.shape[-1]], scale, epsilon)
    y = torch.nn.functional.linear(n, w)
    if activation == "Silu":
        y = torch.nn.functional.silu(y)
    if gate is not None:
        y = y * torch.nn.functional.linear(n, gate)
    return y if residual is None else y + residual


@linear.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    gate: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del gate, scale, residual, epsilon, activation, candidate
    return x.new_empty((*x.shape[:-1], w.shape[0]))


@linear.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    gate: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.one_row import launch_gemv

    if x.numel() != x.shape[-1]:  # more than one row: what torch has for it
        return meaning(x, w, gate, scale, residual, epsilon, activation)
    # Settings are chosen for constant weights alone; others may be the result of the kernel ahead, and must be awaited.
    early = None if candidate is not None else False
    return launch_gemv(x, w, gate, scale, residual, epsilon, activation, candidate, early=early)


@torch.library.custom_op("tamago::attention_step", mutates_args=("keys", "values"), device_types="cpu")
def attention_step(
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
) -> Tensor:
    """Rotate q and k, write k and v into the cache at the position, attend to every slot up to it.

    Args:
        q: (1, heads of queries, 1, D).
        k: (1, heads of keys, 1, D).
        v: like k.
        cos: (slots or more, D/2), a row for each position.
        sin: like cos.
        position: (1), int64.
        keys: (1, heads of keys, slots, D), written.
        values: like keys, written.
        scale: of the scores.
        candidate: the kernel's settings, as `tune` chose them; None: its defaults.
    """
    del candidate
    return attend(q, k, v, cos, sin, position, keys, values, scale)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    position: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
) -> Tensor:
    """What `attention_step` computes, in plain torch, on any device and in any precision."""
    c, s = cos.index_select(0, position), sin.index_select(0, position)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * c - b * s, b * c + a * s), -1)

    keys.index_copy_(2, position, turned(k))
    values.index_copy_(2, position, v)
    visible = torch.arange(keys.shape[2], device=q.device) <= position
    return torch.nn.functional.scaled_dot_product_attention(
        turned(q), keys, values, attn_mask=visible[None, None, None], scale=scale, enable_gqa=True
    )


@attention_step.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
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
) -> Tensor:
    del k, v, cos, sin, position, keys, values, scale, candidate
    return torch.empty_like(q)


@attention_step.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
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
) -> Tensor:
    from ..launch.one_row import launch_attention_step

    heads, size = keys.shape[1], keys.shape[3]
    if not takes(q.shape[1] // heads, size):
        return attend(q, k, v, cos, sin, position, keys, values, scale)
    return launch_attention_step(q, k, v, cos, sin, position, keys, values, scale, candidate)


SMALLEST_HEAD = 32  # the kernel multiplies halves of heads, and the tensor cores take 16 columns or more


def takes(shared: int, size: int) -> bool:
    """Whether the kernel is made for so many queries to each head of keys, and for heads of this size."""
    return size >= SMALLEST_HEAD and not size & (size - 1) and (shared <= 16 or not shared & (shared - 1))


def own(cache: Tensor) -> Tensor:
    """A copy that may be written to; left out where the caller gives the cache away."""
    return cache.clone(memory_format=torch.contiguous_format)  # as the kernel reads it
