"""Optimisations that no other tool is known to make together: a file each, with the hand-fused form to compare with."""

from __future__ import annotations

from . import (
    attention,
    cancellation,
    gelu,
    group_norm,
    layer_norm,
    pre_activation,
    rms_norm,
    rope,
    scalar_chain,
    swiglu,
)
from .case import Miss

MISSES: tuple[Miss, ...] = (
    *rms_norm.MISSES,
    *gelu.MISSES,
    *rope.MISSES,
    *group_norm.MISSES,
    *scalar_chain.MISSES,
    *cancellation.MISSES,
    *pre_activation.MISSES,
    *layer_norm.MISSES,
    *swiglu.MISSES,
    *attention.MISSES,
)
