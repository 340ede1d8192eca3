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
    from .launch import launch_gemv

    if x.numel() != x.shape[-1]:  # more than one row: what torch has for it
        return meaning(x, w, gate, scale, residual, epsilon, activation)
    return launch_gemv(x, w, gate, scale, residual, epsilon, activation, candidate)
