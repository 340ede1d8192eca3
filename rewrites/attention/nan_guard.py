"""`Where(IsNaN(p), 0, p)` behind a softmax guards rows that may not see any key; where no row can be so, it goes.

torch's exporter writes it behind every masked softmax. A softmax of finite scores is NaN only in a row whose every
score is -∞, so without a mask, with a finite one, or with a constant one that leaves every row an entry above -∞ it is
never NaN. Scores that are NaN or +∞ by themselves (overflow, bad inputs) are outside these identities: the guard hid
them as zeros, the result without it is NaN.
"""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Pattern, Skip, Term, Value, op, rule, var
from .operands import require_last

q, k, m, b, y, n, a = var("q k m b y n a")
scores = op.MatMul(q, k)


def _guarded(weights: Pattern) -> Pattern:
    return op.Where(op.IsNaN(weights), 0, weights)


def _sees_a_key(mask: Array) -> bool:
    return mask.ndim > 0 and mask.size > 0 and bool(np.all(np.max(mask, axis=-1) > -np.inf)) and _no_nan(mask)


def _no_nan(mask: Array) -> bool:
    return not bool(np.any(np.isnan(mask)) or np.any(mask == np.inf))


def _finite(mask: Array) -> bool:
    return bool(np.all(np.isfinite(mask)))


@rule(
    _guarded(op.Softmax(scores, axis=a)),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "a": -1},
        {"q": "f16[5,8]", "k": "f16[8,6]", "a": 1},
    ],
    refuse={"q": "f32[5,8]", "k": "f32[8,6]", "a": 0, "because": "not the last"},
)
def nan_guard_unmasked(q: Value, k: Value, a: int) -> Term:
    """Where(IsNaN(softmax(q k)), 0, softmax(q k)) = softmax(q k) for finite q k."""
    require_last(a, max(q.rank, k.rank))
    return op.Softmax(op.MatMul(q, k), axis=a)


@rule(
    _guarded(op.Softmax(op.Add(scores, m), axis=a)),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "m": "f32[5,6] const", "a": -1},
        {"q": "f32[3,2,8]", "k": "f32[3,8,2]", "m": "f32[2,2] = 0 -inf 0 0", "a": -1},
        {"q": "f16[L,8]", "k": "f16[8,S]", "m": "f16[1] = 0", "a": 1},
    ],
    refuse=[
        {"q": "f32[3,2,8]", "k": "f32[3,8,2]", "m": "f32[2,2] = 0 -inf -inf -inf", "a": -1, "because": "hide every"},
        {"q": "f32[3,2,8]", "k": "f32[3,8,2]", "m": "f32[2,2]", "a": -1, "because": "hide every"},
    ],
)
def nan_guard_constant_mask(q: Value, k: Value, m: Value, a: int) -> Term:
    """Where(IsNaN(p), 0, p) = p for p = softmax(q k + m) when every row of the constant m has an entry above -∞."""
    require_last(a, max(q.rank, k.rank, m.rank))
    if not m.every(_sees_a_key):
        raise Skip("a row of the mask may hide every key")
    return op.Softmax(op.Add(op.MatMul(q, k), m), axis=a)


@rule(
    _guarded(op.Softmax(op.Add(scores, op.Where(b, y, n)), axis=a)),
    drift="rounding",
    example=[
        {"q": "f32[2,3,5,8]", "k": "f32[2,3,8,6]", "b": "b[2,1,5,6]", "a": -1}
        | {"y": "f32[] = 0", "n": "f32[] = -3.4028234663852886e38"},
        {"q": "f16[5,8]", "k": "f16[8,6]", "b": "b[5,6]", "y": "f16[] = 0", "n": "f16[] = -65504", "a": 1},
    ],
    refuse={"q": "f32[5,8]", "k": "f32[8,6]", "b": "b[5,6]", "y": "f32[] = 0", "n": "f32[] = -inf", "a": 1}
    | {"because": "hide every"},
)
def nan_guard_chosen_mask(q: Value, k: Value, b: Value, y: Value, n: Value, a: int) -> Term:
    """Where(IsNaN(p), 0, p) = p for p = softmax(q k + (b ? y : n)) with finite constants y and n."""
    require_last(a, max(q.rank, k.rank, b.rank))
    if not y.every(_finite) or not n.every(_finite):
        raise Skip("a row of the mask may hide every key")
    return op.Softmax(op.Add(op.MatMul(q, k), op.Where(b, y, n)), axis=a)
