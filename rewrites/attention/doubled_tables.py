"""Tables of cosines and sines computed from positions: the doubling moves behind every step, where it can be seen.

Exporters write cos([f f]), then Unsqueeze or scale it; RotaryEmbedding wants cos(f).
"""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import positive, positives
from .operands import one_number

f, e, a, c, t = var("f e a c t")


@rule(
    op.Cos(op.Concat(f, f, axis=e)),
    drift="none",
    example=[{"f": "f32[2,3,4]", "e": -1}, {"f": "f16[L,4]", "e": 1}],
)
def cos_of_doubled(f: Value, e: int) -> Term:
    """Cos([f f]) = [Cos(f) Cos(f)]."""
    return op.Concat(op.Cos(f), op.Cos(f), axis=e)


@rule(
    op.Sin(op.Concat(f, f, axis=e)),
    drift="none",
    example=[{"f": "f32[2,3,4]", "e": -1}, {"f": "f16[L,4]", "e": 1}],
)
def sin_of_doubled(f: Value, e: int) -> Term:
    """Sin([f f]) = [Sin(f) Sin(f)]."""
    return op.Concat(op.Sin(f), op.Sin(f), axis=e)


@rule(
    op.Cast(op.Concat(f, f, axis=e), to=t),
    drift="none",
    example=[{"f": "f32[2,3,4]", "e": -1, "t": 10}, {"f": "f16[L,4]", "e": 1, "t": 1}],
)
def cast_of_doubled(f: Value, e: int, t: int) -> Term:
    """Cast([f f]) = [Cast(f) Cast(f)]."""
    return op.Concat(op.Cast(f, to=t), op.Cast(f, to=t), axis=e)


@rule(
    op.Mul(op.Concat(f, f, axis=e), c),
    drift="none",
    example=[
        {"f": "f32[2,3,4]", "e": -1, "c": "f32[] = 0.5"},
        {"f": "f16[L,4]", "e": 1, "c": "f16[1] = 2"},
    ],
    refuse={"f": "f32[2,4]", "e": -1, "c": "f32[8] = 1 2", "because": "not one number"},
)
def scale_of_doubled(f: Value, e: int, c: Value) -> Term:
    """[f f]·c = [f·c f·c] for a number c."""
    one_number(c, f)
    return op.Concat(op.Mul(f, c), op.Mul(f, c), axis=e)


@rule(
    op.Unsqueeze(op.Concat(f, f, axis=e), a),
    drift="none",
    example=[
        {"f": "f32[2,3,4]", "e": -1, "a": "i64[1] = 1"},
        {"f": "f16[L,4]", "e": 1, "a": "i64[2] = 0 -1"},
    ],
    refuse={"f": "f32[2,4]", "e": -1, "a": "i64[1]", "because": "not a constant"},
)
def unsqueeze_of_doubled(f: Value, e: int, a: Value) -> Term:
    """Unsqueeze([f f]) = [Unsqueeze(f) Unsqueeze(f)]."""
    rank = f.rank + a.array.size
    new = positives(a.array.reshape(-1).tolist(), rank)
    if len(set(new)) < a.array.size:
        raise Skip("an axis is named twice")
    kept = [axis for axis in range(rank) if axis not in new]
    return op.Concat(op.Unsqueeze(f, a), op.Unsqueeze(f, a), axis=kept[positive(e, f.rank)])
