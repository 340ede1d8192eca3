"""The torch operator for two products of many rows with an activation between them, and LayerNorm of the rows ahead.

As in `library`: on the CPU it computes what the kernel does in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..widths import parts
from .affine import multiplied
from .convolution import GROUPED, LIBRARY
from .norm import normalised

MOST_WIDE = 512  # elements of a row: sums of so many fill the registers


@torch.library.custom_op("tamago::mlp", mutates_args=(), device_types="cpu")
def mlp(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    """act(x·wᵀ + b)·vᵀ + c + residual; what is None is left out. With a norm, LayerNorm of x is in its place.

    Args:
        x: (…, K).
        w: (H, K), row by row.
        b: (H).
        v: (O, H), row by row.
        c: (O).
        residual: as the result, (…, O).
        norm: the norm's scale and shift, (K) each; empty: no norm.
        epsilon: of the norm.
        activation: a name in `library.convolution.ACTIVATIONS`.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`, all of it apart; None: apart, too.
    """
    del candidate
    return apart(x, w, b, v, c, residual, norm, epsilon, activation)


def apart(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
) -> Tensor:
    """What `mlp` computes, in plain torch, on any device and in any precision."""
    if len(norm) > 0:
        x = normalised(x, norm[0], norm[1], epsilon, centred=True)
    return multiplied(multiplied(x, w, b, None, activation, ""), v, c, residual, "", "")


def takes(inner: int, out: int) -> bool:
    """Whether the kernel holds rows of these widths in registers and shared memory."""
    return max(sum(parts(inner)), sum(parts(out))) <= MOST_WIDE


@mlp.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    del w, b, c, residual, norm, epsilon, activation, candidate
    return x.new_empty((*x.shape[:-1], v.shape[0]))


@mlp.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.mlp import fits_mlp, launch_mlp

    if candidate is None or candidate[0] == LIBRARY or not fits_mlp(x, w, v):
        return apart(x, w, b, v, c, residual, norm, epsilon, activation)
    if candidate[0] == GROUPED:
        from ..launch.grouped import launch_grouped
        from ..launch.product import hopper

        if not hopper(x.device):
            return apart(x, w, b, v, c, residual, norm, epsilon, activation)
        return launch_grouped(x, w, b, v, c, residual, norm, epsilon, activation, candidate)
    return launch_mlp(x, w, b, v, c, residual, norm, epsilon, activation, candidate)
