"""Activations on float32 inside a kernel; the names are what the operators' attribute says."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activate(x, NAME: tl.constexpr, HALF: tl.constexpr = False):
    """The activation of this name; an empty name is the identity. `HALF`: the result is stored in half precision."""
    if NAME == "Silu":
        x = x / (1.0 + tl.exp(-x))
    elif NAME == "Relu":
        x = tl.maximum(x, 0.0, tl.PropagateNan.ALL)
    elif NAME == "Relu6":
        x = tl.minimum(tl.maximum(x, 0.0, tl.PropagateNan.ALL), 6.0, tl.PropagateNan.ALL)
    elif NAME == "HardSwish":
        x = x * tl.minimum(tl.maximum(x / 6.0 + 0.5, 0.0), 1.0)
    elif NAME == "Sigmoid":
        x = 1.0 / (1.0 + tl.exp(-x))
    elif NAME == "HardSigmoid":
        x = tl.minimum(tl.maximum(x / 6.0 + 0.5, 0.0, tl.PropagateNan.ALL), 1.0, tl.PropagateNan.ALL)
    elif NAME == "Gelu" and HALF:
        x = _gelu(x)
    elif NAME == "Gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif NAME == "GeluTanh":
        # tanh(u) = 1 − 2/(e²ᵘ + 1)
        u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        x = x * (1.0 - 1.0 / (tl.exp(tl.minimum(2.0 * u, 80.0)) + 1.0))
    else:
        tl.static_assert(NAME == "", "unknown activation")
    return x


@triton.jit
def _gelu(x):
    """max(x, 0) - t·q(t) with t = min(|x|, 4.42): t·q(t), of degree 10, is |x|·(1 - erf(|x|/√2))/2, and q(0) = 1/2.

    Right within 1.2e-5, rounding in single precision included (the fit in the maximum norm is 1.1e-5 off, beyond 4.42
    too): a fortieth of what rounding a number above 1 to half precision may cost. Near zero it is right within 2e-5 of
    its own size. q is a polynomial around the middle of its range, for which a subtraction is paid: in powers of t,
    terms are so much larger than their sum that rounding them costs 3e-5. The last line is one multiply-add. Thirteen
    instructions in all; an odd polynomial for erf, right within 3.6e-5, took fourteen, and erf itself takes thirty.
    Where a product's inner dimension is short, those were half its time.
    """
    t = tl.minimum(tl.abs(x), 4.42)
    s = t - 2.21
    q = -1.3922806e-05
    q = q * s + 5.034427e-05
    q = q * s + 0.00016346217
    q = q * s - 0.0010471835
    q = q * s + 0.00086844334
    q = q * s + 0.0059677493
    q = q * s - 0.022579702
    q = q * s + 0.03837997
    q = q * s - 0.034678336
    q = q * s + 0.013549368
    return tl.maximum(x, 0.0, tl.PropagateNan.ALL) - t * q
