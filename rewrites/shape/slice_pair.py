"""Slices written in one way; those that cut nothing off, and two in a row."""

from __future__ import annotations

from ...compiler.facts import Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .cuts import END, Cut, cut_shape, length, read_cuts, write_cuts

x, s, e, a, p, t, f, b, q = var("x s e a p t f b q")


@rule(
    op.Slice(x, s, e),
    op.Slice(x, s, e, a),
    op.Slice(x, s, e, a, p),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 EliminateSlice, onnxslim, onnxoptimizer",
    example=[
        {"x": "f32[4,5]", "s": "i64[1] = 0", "e": "i64[1] = 9223372036854775807", "a": "i64[1] = 0", "p": "i64[1] = 1"},
        {"x": "i64[4,5]", "s": "i64[2] = 1 -3", "e": "i64[2] = 9 -1", "a": "i64[2] = 1 0", "p": "i64[2] = 2 1"},
        {"x": "f32[n,5]", "s": "i64[2] = 0 0", "e": "i64[2] = 2147483647 5", "a": "i64[2] = 0 1", "p": "i64[2] = 1"},
        {"x": "f32[4,5]", "s": "i32[1] = 1", "e": "i32[1] = 3", "a": "i32[1] = -1", "p": "i32[1] = 1"},
    ],
    refuse=[
        {
            "x": "f32[4]",
            "s": "i64[1] = -1",
            "e": "i64[1] = -9",
            "a": "i64[1] = 0",
            "p": "i64[1] = -1",
            "pattern": 2,
            "because": "backwards",
        },
        {"x": "f32[4]", "s": "i64[1]", "e": "i64[1] = 3", "a": "i64[1] = 0", "pattern": 1, "because": "constant"},
    ],
)
def slice_canonical(x: Value, s: Value, e: Value, a: Value | None, p: Value | None) -> Term:
    """Slice(x) = x when nothing is cut off; axes that are kept whole are left out."""
    return write_cuts(x, x.shape, read_cuts(x.shape, s, e, a, p))


@rule(
    op.Slice(op.Slice(x, s, e, a), t, f, b),
    op.Slice(op.Slice(x, s, e, a, p), t, f, b),
    op.Slice(op.Slice(x, s, e, a), t, f, b, q),
    op.Slice(op.Slice(x, s, e, a, p), t, f, b, q),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxoptimizer, onnxscript",
    example=[
        {
            "x": "f32[9,8]",
            "s": "i64[1] = 1",
            "e": "i64[1] = 8",
            "a": "i64[1] = 0",
            "p": "i64[1] = 2",
            "t": "i64[1] = 1",
            "f": "i64[1] = 3",
            "b": "i64[1] = 0",
            "q": "i64[1] = 2",
        },
        {
            "x": "i64[9,n]",
            "s": "i64[1] = 1",
            "e": "i64[1] = 8",
            "a": "i64[1] = 0",
            "p": "i64[1] = 1",
            "t": "i64[1] = 1",
            "f": "i64[1] = 3",
            "b": "i64[1] = 1",
            "q": "i64[1] = 1",
        },
        {
            "x": "f32[n,8]",
            "s": "i64[1] = 0",
            "e": "i64[1] = 9",
            "a": "i64[1] = 0",
            "t": "i64[1] = 1",
            "f": "i64[1] = 9223372036854775807",
            "b": "i64[1] = 0",
            "pattern": 0,
        },
    ],
    refuse={
        "x": "f32[n]",
        "s": "i64[1] = -5",
        "e": "i64[1] = 9",
        "a": "i64[1] = 0",
        "t": "i64[1] = 1",
        "f": "i64[1] = 2",
        "b": "i64[1] = 0",
        "pattern": 0,
        "because": "size is not known",
    },
)
def slice_pair(
    x: Value, s: Value, e: Value, a: Value, p: Value | None, t: Value, f: Value, b: Value, q: Value | None
) -> Term:
    """Slice(Slice(x)) = Slice(x)."""
    inner = read_cuts(x.shape, s, e, a, p)
    outer = read_cuts(cut_shape(x.shape, inner), t, f, b, q)
    both = {**outer, **inner}
    for axis in inner.keys() & outer.keys():
        both[axis] = _after(inner[axis], outer[axis], x.shape[axis])
    return write_cuts(x, x.shape, both)


def _after(first: Cut, second: Cut, size: Dim) -> Cut:
    """One cut for two."""
    start, step = first[0] + second[0] * first[2], first[2] * second[2]
    if isinstance(size, int):
        count = length(second, length(first, size))
        assert isinstance(count, int)
        return start, start + max(0, (count - 1) * step + 1), step
    if first[0] < 0 or second[0] < 0 or step != 1:
        raise Skip("the size is not known and the cuts are not from the front")
    if second[1] == END:
        return start, first[1], 1
    if second[1] < 0 or first[1] < 0:
        raise Skip("the size is not known and a cut ends at a distance from the end")
    return start, min(first[1], first[0] + second[1]), 1
