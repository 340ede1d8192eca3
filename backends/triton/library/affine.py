"""The torch operator for products of many rows, LayerNorm of the rows ahead, and what is done to their results.

As in `library`: on the CPU it computes what the kernels do in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .convolution import ACTIVATIONS, LIBRARY, LT, TMA, WHOLE
from .norm import normalised


@torch.library.custom_op("tamago::affine", mutates_args=(), device_types="cpu")
def affine(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """after(act(x·wᵀ + bias) + residual); what is None is left out. With a norm, LayerNorm of x is in its place.

    Args:
        x: (…, K).
        w: (N, K), row by row.
        bias: (N).
        residual: as the result.
        norm: the norm's scale and shift, (K) each; empty: no norm.
        epsilon: of the norm.
        activation: a name in `library.convolution.ACTIVATIONS`.
        after: another.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`, all of it apart; None: apart, too.
    """
    del candidate
    return multiplied(_normed(x, norm, epsilon), w, bias, residual, activation, after)


def multiplied(x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | None, activation: str, after: str) -> Tensor:
    """What `affine` computes of rows as they are, in plain torch, on any device and in any precision."""
    y = ACTIVATIONS[activation](functional.linear(x, w, bias))
    return ACTIVATIONS[after](y if residual is None else y + residual)


def _normed(x: Tensor, norm: Sequence[Tensor], epsilon: float) -> Tensor:
    return normalised(x, norm[0], norm[1], epsilon, centred=True) if len(norm) > 0 else x


@affine.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del bias, residual, norm, epsilon, activation, after, candidate
    return x.new_empty((*x.shape[:-1], w.shape[0]))


@affine.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    after: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.convolution import fits, launch_affine
    from ..launch.whole import launch_whole

    rest = residual, activation, after
    kind = LIBRARY if candidate is None else candidate[0]
    if candidate is None or kind == LIBRARY or not fits(x, w, x.numel() // w.shape[1] * w.shape[0]):
        return multiplied(_normed(x, norm, epsilon), w, bias, *rest)
    if kind == WHOLE:
        return launch_whole(x, w, bias, residual, norm, epsilon, activation, after, candidate)
    x = _normed(x, norm, epsilon)
    if kind == LT:
        from ..cublas_lt import launch_lt_affine, may_ask

        asked = may_ask(x, residual, activation, after)
        found = launch_lt_affine(x, w, bias, *rest, candidate) if asked else None
        return multiplied(x, w, bias, *rest) if found is None else found
    if kind == TMA:
        from ..launch.product import launch_fetched_affine, may_fetch

        return launch_fetched_affine(x, w, bias, *rest, candidate) if may_fetch(x, w) else multiplied(x, w, bias, *rest)
    return launch_affine(x, w, bias, *rest, candidate)
