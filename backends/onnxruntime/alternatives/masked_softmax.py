"""A softmax of scores that a mask hides, from a floor on: what is hidden weighs e⁻⁵⁰ instead of nothing.

ONNX Runtime's kernel takes e^x of what is hidden at the least x that it knows, -88.4, and that is no normal number. An
Intel Xeon takes 548 µs for 8 × 128 rows of 128 with half of the scores hidden, 92 with none. On processors that are as
fast with such numbers the three operators of the floor are what costs, and the price says so.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.hidden_scores import hides
from ....compiler.rule import Expression, Pattern, Skip, Term, Value, op, rule, var

x, b, m, n, v, z, a = var("x b m n v z a")
FLOOR = 50.0  # below the largest score: a million such weights are 2e-16 together, and each is a normal number


def _weighed(scores: Pattern) -> tuple[Pattern, Pattern]:
    """As they are, or with a guard of rows that see no key: Where(IsNaN(weights), 0, weights)."""
    weights = op.Softmax(scores, axis=a)
    return op.MatMul(weights, v), op.MatMul(op.Where(op.IsNaN(weights), z, weights), v)


SCORES = {"x": "f32[2,3,4,4]", "v": "f32[2,3,4,5]", "z": "f32[] = 0", "a": -1}
HIDING = "f32[4,4] = 0 -inf -inf -inf 0 0 -inf -inf 0 0 0 -inf 0 0 0 0"
CHOSEN = {"b": "b[4,4] = 1 0 0 0 1 1 0 0 1 1 1 0 1 1 1 1", "n": "f32[] = -inf", "m": "f32[1] = -1e9"}


@rule(
    *_weighed(op.Add(x, m)),
    drift="rounding",
    phase="lower",
    example=[
        SCORES | {"m": HIDING},
        SCORES | {"m": "f32[4,4] = 0 -100 -100 -100 0 0 -100 -100 0 0 0 -100 0 0 0 0", "a": 3},
    ],
    refuse=[
        SCORES | {"m": "f32[4,4] const", "because": "hides nothing"},
        SCORES | {"m": "f32[4,4]", "because": "hides nothing"},
        SCORES | {"m": HIDING, "z": "f32[] = 1", "pattern": 1, "because": "no guard"},
        {"x": "f16[4,4]", "v": "f16[4,5]", "m": "f16[1] = -inf", "z": "f16[] = 0", "a": -1} | {"because": "single"},
    ],
)
def masked_softmax(x: Value, m: Value, a: int, v: Value, z: Value | None) -> Term:
    """softmax(x + m) v = softmax(max(s, max s − 50)) v with s = x + m."""
    return _from_floor(op.Add(x, m), m, a, v, z)


@rule(
    *_weighed(op.Where(b, x, n)),
    *_weighed(op.Where(b, m, x)),
    drift="rounding",
    phase="lower",
    example=[SCORES | CHOSEN, SCORES | CHOSEN | {"b": "b[4,4] = 0 1 1 1 0 0 1 1 0 0 0 1 0 0 0 0", "pattern": 2}],
    refuse=[
        SCORES | CHOSEN | {"n": "f32[] = -1", "pattern": 0, "because": "hides nothing"},
        SCORES | CHOSEN | {"m": "f32[] = -1", "pattern": 3, "because": "hides nothing"},
    ],
)
def chosen_softmax(b: Value, x: Value, n: Value | None, m: Value | None, a: int, v: Value, z: Value | None) -> Term:
    """softmax(b ? x : −∞) v = softmax(max(s, max s − 50)) v with s = b ? x : −∞."""
    if n is not None:
        return _from_floor(op.Where(b, x, n), n, a, v, z)
    assert m is not None
    return _from_floor(op.Where(b, m, x), m, a, v, z)


def _from_floor(scores: Expression, mask: Value, axis: int, v: Value, guard: Value | None) -> Term:
    if mask.dtype != ir.DataType.FLOAT:
        raise Skip("the kernel is for single precision")
    if not hides(mask.fact):
        raise Skip("the mask hides nothing as far as is known")
    if guard is not None and guard.scalar != 0:
        raise Skip("what stands for NaN is not 0: it is no guard")
    least = op.Sub(op.ReduceMax(scores, np.asarray([axis]), keepdims=1), np.float32(FLOOR))
    weights = op.Softmax(op.Max(scores, least), axis=axis)
    return op.MatMul(weights if guard is None else op.Where(op.IsNaN(weights), guard, weights), v)
