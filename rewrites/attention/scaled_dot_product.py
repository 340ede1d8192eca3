"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762) recognised as ONNX's Attention (opset 23).

The patterns hold no scale and no grouped heads: those are taken in afterwards (`attention_scale.py`,
`attention_heads.py`). A NaN-guard, `Where(IsNaN(p), 0, p)`, is what torch's softmax does to rows that see no key.

Attention in ONNX Runtime 1.32 answers 0 for a row whose scores are all at or below the lowest finite number, where a
softmax answers the mean (all lowest) or NaN (all -∞). So masks are proven, or raised by one step, or refused; one that
is known to be causal by its subscripts (`compiler/causal_masks.py`) needs no array at all; under a NaN-guard rows of -∞
give 0 on both sides. Scores that are NaN or infinite by themselves are outside these identities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Pattern, Skip, Term, Value, op, rule, var
from ..shape.dimensions import broadcast
from .operands import (
    HALVES,
    attention,
    fit_mask,
    hides_no_row,
    is_far,
    lowest,
    raised,
    require_kernel_dtype,
    require_last,
)

q, k, v, m, b, y, n, a = var("q k v m b y n a")
scores = op.MatMul(q, k)


def _softmax(x: Pattern) -> Pattern:
    return op.Softmax(x, axis=a)


def _single_softmax(x: Pattern) -> Pattern:
    """Half-precision models take the softmax in float32."""
    return op.Cast(op.Softmax(op.Cast(x, to=int(ir.DataType.FLOAT)), axis=a), to=int(ir.DataType.FLOAT16))


def _guarded(softmax: Callable[[Pattern], Pattern], x: Pattern) -> Pattern:
    weights = softmax(x)
    return op.Where(op.IsNaN(weights), 0, weights)


def _attributes(q: Value) -> dict[str, float]:
    """Without a scale, and with a softmax in float32 for halves: no less precise than any pattern."""
    return {"scale": 1.0} | ({"softmax_precision": 1} if q.dtype in HALVES else {})


@rule(
    op.MatMul(_softmax(scores), v),
    op.MatMul(_single_softmax(scores), v),
    drift="rounding",
    peers="onnxscript, onnxsim, ORT L2 Attention (some models)",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "a": -1, "pattern": 0},
        {"q": "f32[B,3,L,8]", "k": "f32[B,3,8,S]", "v": "f32[B,3,S,8]", "a": 3, "pattern": 0},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "a": -1, "pattern": 0},
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,8]", "a": 1, "pattern": 0},
        {"q": "f16[2,3,5,8]", "k": "f16[2,3,8,6]", "v": "f16[2,3,6,8]", "a": -1},
    ],
    refuse=[
        {"q": "f32[2,5,8]", "k": "f32[2,8,6]", "v": "f32[2,6,4]", "a": 1, "pattern": 0, "because": "not the last"},
        {"q": "f32[2,5,8]", "k": "f32[2,8,6]", "v": "f32[6,4]", "a": -1, "pattern": 0, "because": "of one rank"},
        {"q": "f32[2,5,8]", "k": "f32[1,8,6]", "v": "f32[2,6,4]", "a": -1, "pattern": 0, "because": "batches"},
        {"q": "f32[5,8]", "k": "f32[8,6] const", "v": "f32[6,4]", "a": -1, "pattern": 0, "because": "weights"},
        {"q": "f64[5,8]", "k": "f64[8,6]", "v": "f64[6,4]", "a": -1, "pattern": 0, "because": "float32 or"},
        {"q": "f32[0,8]", "k": "f32[8,6]", "v": "f32[6,4]", "a": -1, "pattern": 0, "because": "empty"},
    ],
)
def attention_unmasked(q: Value, k: Value, v: Value, a: int) -> Term:
    """softmax(q k) v = Attention(q, kᵀ, v)."""
    require_last(a, q.rank)
    return attention(q, k, v, None, _attributes(q))


@rule(
    op.MatMul(_softmax(op.Add(scores, m)), v),
    op.MatMul(_single_softmax(op.Add(scores, m)), v),
    drift="rounding",
    peers="onnxscript, onnxsim",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[5,6] const", "a": -1, "pattern": 0},
        {"q": "f32[2,3,4,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,8]", "m": "f32[2,1,1,6] const", "a": -1}
        | {"pattern": 0},
        {"q": "f32[2,3,L,8]", "k": "f32[2,3,8,S]", "v": "f32[2,3,S,8]", "m": "f32[1,3,1,1] const", "a": 3}
        | {"pattern": 0},
        {"q": "f32[1,1,2,8]", "k": "f32[1,1,8,2]", "v": "f32[1,1,2,8]", "a": -1, "pattern": 0}
        | {"m": "f32[2,2] = 0 -3.4028234663852886e38 -3.4028234663852886e38 -3.4028234663852886e38"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[5,6] const", "a": -1, "pattern": 0},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[3,1,6] const", "a": -1, "pattern": 0},
        {"q": "f16[2,3,5,8]", "k": "f16[2,3,8,6]", "v": "f16[2,3,6,8]", "m": "f16[3,5,6] const", "a": -1},
    ],
    refuse=[
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[5,6]", "a": -1, "pattern": 0}
        | {"because": "hide every key"},
        {"q": "f32[3,2,8]", "k": "f32[3,8,2]", "v": "f32[3,2,8]", "m": "f32[2,2] = 0 -inf -inf -inf", "a": -1}
        | {"pattern": 0, "because": "hide every key"},
        {"q": "f32[3,L,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[2,6] const", "a": -1, "pattern": 0}
        | {"because": "known to be that of the scores"},
        {"q": "f32[5,8]", "k": "f32[8,6]", "v": "f32[6,8]", "m": "f32[1,5,6] const", "a": -1, "pattern": 0}
        | {"because": "more dimensions"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[5,6] const", "a": 1, "pattern": 0}
        | {"because": "not the last"},
    ],
)
def attention_constant_mask(q: Value, k: Value, v: Value, m: Value, a: int) -> Term:
    """softmax(q k + m) v = Attention(q, kᵀ, v, m) for a constant mask that hides no row from every key."""
    require_kernel_dtype(q, m)
    require_last(a, q.rank)
    return _masked(q, k, v, fit_mask(raised(m), m.shape, q, k), causal=m.fact.causal)


@rule(
    op.MatMul(_softmax(op.Add(scores, op.Where(b, y, n))), v),
    op.MatMul(_single_softmax(op.Add(scores, op.Where(b, y, n))), v),
    drift="rounding",
    peers="onnxscript, onnxsim",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,2]", "v": "f32[2,3,2,4]", "b": "b[2,1,5,2]", "a": -1, "pattern": 0}
        | {"y": "f32[] = 0", "n": "f32[] = -3.4028234663852886e38"},
        {"q": "f32[B,3,L,8]", "k": "f32[B,3,8,S]", "v": "f32[B,3,S,8]", "b": "b[B,1,1,S]", "a": -1, "pattern": 0}
        | {"y": "f32[] = 0", "n": "f32[1] = -1e9"},
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,8]", "b": "b[2,1,5,6]", "a": -1, "pattern": 0}
        | {"y": "f32[3,5,6] const", "n": "f32[] = -3.4028234663852886e38"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "v": "f16[3,6,8]", "b": "b[5,6]", "a": -1}
        | {"y": "f16[] = 0", "n": "f16[] = -65504"},
    ],
    refuse=[
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "b": "b[5,6]", "a": -1, "pattern": 0}
        | {"y": "f32[] = 0", "n": "f32[] = -inf", "because": "hide every key"},
        {"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "b": "b[5,6]", "a": -1, "pattern": 0}
        | {"y": "f32[]", "n": "f32[] = 1", "because": "hide every key"},
    ],
)
def attention_chosen_mask(q: Value, k: Value, v: Value, b: Value, y: Value, n: Value, a: int) -> Term:
    """softmax(q k + (b ? y : n)) v = Attention(q, kᵀ, v, b ? y : n) for finite constants y and n."""
    require_kernel_dtype(q, y, n)
    require_last(a, q.rank)
    mask = op.Where(b, _finite(y), _finite(n))
    causal = b.fact.causal and y.every(_is_zero) and n.every(is_far)
    return _masked(q, k, v, fit_mask(mask, broadcast(b.shape, y.shape, n.shape), q, k), causal=causal)


def _masked(q: Value, k: Value, v: Value, mask: Term, *, causal: bool) -> Term:
    """Attention with a mask that fits the scores; without it where it is what causality says."""
    if causal:
        return attention(q, k, v, None, _attributes(q) | {"is_causal": 1})
    return attention(q, k, v, mask, _attributes(q))


def _is_zero(numbers: Array) -> bool:
    return not np.any(numbers)


def _finite(choice: Value) -> Term:
    """One of a mask's two constants; a row may consist of it alone."""
    if not choice.every(lambda array: bool(np.all(np.isfinite(array)))):
        raise Skip("a row of the mask may hide every key")
    return raised(choice)


@rule(
    op.MatMul(_guarded(_softmax, op.Add(scores, m)), v),
    op.MatMul(_guarded(_single_softmax, op.Add(scores, m)), v),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "v": "f32[2,3,6,4]", "m": "f32[2,1,5,6]", "a": -1, "pattern": 0},
        {"q": "f32[B,3,L,8]", "k": "f32[B,3,8,S]", "v": "f32[B,3,S,8]", "m": "f32[B,1,1,S]", "a": -1, "pattern": 0},
        {"q": "f32[1,1,2,8]", "k": "f32[1,1,8,2]", "v": "f32[1,1,2,8]", "a": -1, "pattern": 0}
        | {"m": "f32[2,2] = 0 -inf -inf -inf"},
        {"q": "f16[3,5,8]", "k": "f16[3,8,6]", "v": "f16[3,6,8]", "m": "f16[5,6]", "a": -1},
    ],
    refuse={"q": "f32[3,5,8]", "k": "f32[3,8,6]", "v": "f32[3,6,8]", "m": "f32[5,6]", "a": 0, "pattern": 0}
    | {"because": "not the last"},
)
def attention_guarded(q: Value, k: Value, v: Value, m: Value, a: int) -> Term:
    """softmax(q k + m) v with 0 where a row is NaN = Attention(q, kᵀ, v, m·(1-ε)).

    A row of -∞ gives 0 on both sides. A row of lowest numbers gives the mean on the left; a mask that is one rounding
    step smaller is above the lowest number, and gives the mean on the right.
    """
    require_kernel_dtype(q, m)
    require_last(a, q.rank)
    below_one = np.nextafter(np.ones_like(lowest(m.dtype)), np.zeros_like(lowest(m.dtype)))
    mask: Term = m if hides_no_row(m) else op.Mul(m, below_one)
    return _masked(q, k, v, fit_mask(mask, m.shape, q, k), causal=m.fact.causal)
