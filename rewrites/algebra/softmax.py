"""Logarithms and places of the largest of a softmax."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import positive

x, a, b, k, last = var("x a b k last")


@rule(
    op.LogSoftmax(op.LogSoftmax(x, axis=a), axis=b),
    drift="rounding",
    phase="canonicalise",
    peers="onnxoptimizer fuse_consecutive_log_softmax",
    example={"x": "f32[2,3]", "a": -1, "b": 1},
    refuse={"x": "f32[2,3]", "a": 0, "b": 1, "because": "axes"},
)
def log_softmax_twice(x: Value, a: int, b: int) -> Term:
    """LogSoftmax(LogSoftmax(x)) = LogSoftmax(x)."""
    if positive(a, x.rank) != positive(b, x.rank):
        raise Skip("the axes differ")
    return op.LogSoftmax(x, axis=a)


@rule(
    op.ArgMax(op.Softmax(x, axis=a), axis=b, keepdims=k, select_last_index=last),
    op.ArgMax(op.LogSoftmax(x, axis=a), axis=b, keepdims=k, select_last_index=last),
    drift="rounding",
    phase="canonicalise",
    peers="onnxoptimizer eliminate_nop_monotone_argmax",
    example={"x": "f32[2,3]", "a": -1, "b": 1, "k": 0, "last": 0},
    refuse={"x": "f32[2,3]", "a": 0, "b": 1, "k": 0, "last": 0, "because": "another axis"},
)
def arg_max_of_softmax(x: Value, a: int, b: int, k: int, last: int) -> Term:
    """ArgMax(Softmax(x)) = ArgMax(x): of two that round to one probability the softmax finds the first."""
    if positive(a, x.rank) != positive(b, x.rank):
        raise Skip("the softmax is along another axis")
    return op.ArgMax(x, axis=b, keepdims=k, select_last_index=last)
