"""Activations on float32 inside a kernel; the names are what the operators' attribute says."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activate(x, NAME: tl.constexpr):
    """The activation of this name; an empty name is the identity."""
    if NAME == "Silu":
        x = x / (1.0 + tl.exp(-x))
    elif NAME == "Relu":
        x = tl.maximum(x, 0.0)
    elif NAME == "Gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif NAME == "GeluTanh":
        # tanh(u) = 1 − 2/(e²ᵘ + 1), which overflows to the right limits
        u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        x = x * (1.0 - 1.0 / (tl.exp(2.0 * u) + 1.0))
    else:
        tl.static_assert(NAME == "", "unknown activation")
    return x
