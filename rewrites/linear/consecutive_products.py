"""Three factors are multiplied in the cheaper order: constants ahead of time, long dimensions last."""

from __future__ import annotations

from math import prod

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import require_constant, require_float

a, b, c, w, d = var("a b c w d")


def _require_matrices(*factors: Value) -> None:
    require_float(factors[0])
    if min(f.rank for f in factors) < 2:
        raise Skip("a factor is a vector")


def _products(a: Value, b: Value) -> tuple[int, tuple[int, ...]]:
    """Multiplications of a·b, and the shape of the result, with batches broadcast."""
    left, right = a.static_shape, b.static_shape
    return _of_shapes(left, right)


def _of_shapes(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left[:-2], (1,) * (rank - len(right)) + right[:-2], strict=True)
    batch = tuple(q if p == 1 else p for p, q in pairs)
    shape = (*batch, left[-2], right[-1])
    return prod(shape) * left[-1], shape


@rule(
    op.MatMul(op.MatMul(a, b), c),
    drift="rounding",
    example=[
        {"a": "f32[2,9,4]", "b": "f32[4,6] const", "c": "f32[6,3] const"},
        {"a": "f32[N,4]", "b": "f32[4,6] const", "c": "f32[6,3] const"},
        {"a": "f32[2,9,3]", "b": "f32[2,3,9]", "c": "f32[2,9,3]"},
    ],
    refuse=[
        {"a": "f32[9,8]", "b": "f32[8,2] const", "c": "f32[2,8] const", "because": "no less"},
        {"a": "f32[N,3]", "b": "f32[3,N]", "c": "f32[N,3]", "because": "not known"},
        {"a": "f32[2,9]", "b": "f32[9,2]", "c": "f32[2,9]", "because": "no less"},
    ],
)
def product_from_the_right(a: Value, b: Value, c: Value) -> Term:
    """(a·b)·c = a·(b·c) where that is less arithmetic, b·c being free when both are constant."""
    _require_matrices(a, b, c)
    if b.is_const and c.is_const:
        if b.rank > 2 or c.rank > 2:
            raise Skip("a weight is not one matrix")
        inner, middle, outer = *b.static_shape, c.static_shape[1]
        if inner * outer > inner * middle + middle * outer:
            raise Skip("one product is no less arithmetic than two")
        return op.MatMul(a, op.MatMul(b, c))
    first, left = _products(a, b)
    second, right = _products(b, c)
    if second + _of_shapes(a.static_shape, right)[0] >= first + _of_shapes(left, c.static_shape)[0]:
        raise Skip("the other order is no less arithmetic")
    return op.MatMul(a, op.MatMul(b, c))


@rule(
    op.MatMul(a, op.MatMul(b, c)),
    drift="rounding",
    example=[
        {"a": "f32[3,6] const", "b": "f32[6,4] const", "c": "f32[2,4,9]"},
        {"a": "f32[2,3,9]", "b": "f32[2,9,3]", "c": "f32[2,3,9]"},
    ],
    refuse=[
        {"a": "f32[8,2] const", "b": "f32[2,8] const", "c": "f32[8,9]", "because": "no less"},
        {"a": "f32[9,2]", "b": "f32[2,9]", "c": "f32[9,2]", "because": "no less"},
    ],
)
def product_from_the_left(a: Value, b: Value, c: Value) -> Term:
    """a·(b·c) = (a·b)·c where that is less arithmetic, a·b being free when both are constant."""
    _require_matrices(a, b, c)
    if a.is_const and b.is_const:
        if a.rank > 2 or b.rank > 2:
            raise Skip("a weight is not one matrix")
        outer, middle, inner = *a.static_shape, b.static_shape[1]
        if inner * outer > inner * middle + middle * outer:
            raise Skip("one product is no less arithmetic than two")
        return op.MatMul(op.MatMul(a, b), c)
    first, right = _products(b, c)
    second, left = _products(a, b)
    if second + _of_shapes(left, c.static_shape)[0] >= first + _of_shapes(a.static_shape, right)[0]:
        raise Skip("the other order is no less arithmetic")
    return op.MatMul(op.MatMul(a, b), c)


@rule(
    op.Add(op.MatMul(a, w), op.MatMul(op.MatMul(a, b), c)),
    op.Add(op.Add(op.MatMul(a, w), d), op.MatMul(op.MatMul(a, b), c)),
    drift="rounding",
    example=[
        {"a": "f32[2,3,4]", "w": "f32[4,5] const", "b": "f32[4,1] const", "c": "f32[1,5] const", "d": "f32[5]"},
        {"a": "f16[N,4]", "w": "f16[4,5] const", "b": "f16[4,2] const", "c": "f16[2,5] const", "d": "f16[5] const"},
    ],
    refuse=[
        {
            "a": "f32[3,4]",
            "w": "f32[4,5] const",
            "b": "f32[4,1]",
            "c": "f32[1,5] const",
            "d": "f32[5]",
            "because": "computed",
        },
        {
            "a": "f32[3,4]",
            "w": "f32[4,5] const",
            "b": "f32[4,2] const",
            "c": "f32[2,1] const",
            "d": "f32[5]",
            "because": "columns",
        },
    ],
)
def low_rank_update(a: Value, w: Value, b: Value, c: Value, d: Value | None) -> Term:
    """a·w + (a·b)·c = a·(w + b·c) with constants w, b, c: LoRA's adapters (arXiv:2106.09685) merged."""
    _require_matrices(a, w, b, c)
    for factor in (w, b, c):
        require_constant(factor, "a weight")
    if max(w.rank, b.rank, c.rank) > 2 or w.shape[1] != c.shape[1]:
        raise Skip("the products differ in columns")
    merged = op.MatMul(a, op.Add(w, op.MatMul(b, c)))
    return merged if d is None else op.Add(merged, d)
