"""The torch operators that normalise rows.

As in `library`: on the CPU they compute what the kernels do in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .convolution import LIBRARY


@torch.library.custom_op("tamago::layer_norm", mutates_args=(), device_types="cpu")
def layer_norm(
    x: Tensor, scale: Tensor, shift: Tensor | None, epsilon: float, centred: bool, candidate: Sequence[int] | None
) -> Tensor:
    """(x - μ)/√(σ² + ε)·scale + shift over the last axis; not centred: x/√(mean(x²) + ε)·scale.

    Args:
        x: (…, K).
        scale: (K).
        shift: (K), of what is centred.
        epsilon: added to the variance.
        centred: LayerNorm; else RMSNorm.
        candidate: the kernel's settings, as `tune` chose them, or `LIBRARY`; None: `LIBRARY`.
    """
    del candidate
    return normalised(x, scale, shift, epsilon, centred)


def normalised(x: Tensor, scale: Tensor, shift: Tensor | None, epsilon: float, centred: bool) -> Tensor:
    """What `layer_norm` computes, in plain torch, on any device and in any precision."""
    shape = [x.shape[-1]]
    if centred:
        return functional.layer_norm(x, shape, scale, shift, epsilon)
    return functional.rms_norm(x, shape, scale, epsilon)


@layer_norm.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor, scale: Tensor, shift: Tensor | None, epsilon: float, centred: bool, candidate: Sequence[int] | None
) -> Tensor:
    del scale, shift, epsilon, centred, candidate
    return x.new_empty(x.shape)


@layer_norm.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor, scale: Tensor, shift: Tensor | None, epsilon: float, centred: bool, candidate: Sequence[int] | None
) -> Tensor:
    from ..launch.norm import fits, launch_layer_norm

    if candidate is None or candidate[0] == LIBRARY or not fits(x, scale):
        return normalised(x, scale, shift, epsilon, centred)
    return launch_layer_norm(x, scale, shift, epsilon, centred, candidate)
