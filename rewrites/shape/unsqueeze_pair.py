"""Unsqueezes and Squeezes in a row where sizes are not known, so that neither can be written as a Reshape."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints, positives

x, a, b = var("x a b")


@rule(
    op.Unsqueeze(op.Unsqueeze(x, a), b),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 UnsqueezeElimination, onnxslim, onnxoptimizer, onnxscript",
    example=[
        {"x": "f32[n,m]", "a": "i64[1] = 1", "b": "i64[1] = 1"},
        {"x": "f32[n,m]", "a": "i64[1] = -1", "b": "i64[2] = 0 -1"},
        {"x": "i64[2,3]", "a": "i64[2] = 0 2", "b": "i64[1] = 3"},
    ],
    refuse={"x": "f32[n]", "a": "i64[1]", "b": "i64[1] = 0", "because": "not a constant"},
)
def unsqueeze_pair(x: Value, a: Value, b: Value) -> Term:
    """Unsqueeze(Unsqueeze(x, a), b) = Unsqueeze(x, a and b)."""
    inner = x.rank + a.array.size
    second = positives(b.array.reshape(-1).tolist(), inner + b.array.size)
    kept = [axis for axis in range(inner + len(second)) if axis not in second]
    first = [kept[axis] for axis in positives(a.array.reshape(-1).tolist(), inner)]
    return op.Unsqueeze(x, ints(*sorted((*first, *second))))


@rule(
    op.Squeeze(op.Squeeze(x, a), b),
    drift="none",
    phase="canonicalise",
    peers="onnxoptimizer, onnxsim",
    example=[
        {"x": "f32[n,1,m,1]", "a": "i64[1] = 1", "b": "i64[1] = -1"},
        {"x": "i64[1,2,1,1]", "a": "i64[2] = 0 2", "b": "i64[1] = 1"},
    ],
    refuse={"x": "f32[n,1,1]", "a": "i64[1]", "b": "i64[1] = 1", "because": "not a constant"},
)
def squeeze_pair(x: Value, a: Value, b: Value) -> Term:
    """Squeeze(Squeeze(x, a), b) = Squeeze(x, a and b)."""
    first = positives(a.array.reshape(-1).tolist(), x.rank)
    kept = [axis for axis in range(x.rank) if axis not in first]
    second = [kept[axis] for axis in positives(b.array.reshape(-1).tolist(), len(kept))]
    return op.Squeeze(x, ints(*sorted((*first, *second))))


@rule(
    op.Squeeze(op.Unsqueeze(x, a), b),
    drift="none",
    phase="canonicalise",
    peers="onnxsim, onnxoptimizer",
    example=[
        {"x": "f32[n,m]", "a": "i64[1] = 1", "b": "i64[1] = 1"},
        {"x": "f32[n,m]", "a": "i64[2] = 0 1", "b": "i64[1] = 1"},
        {"x": "f32[n,1,m]", "a": "i64[1] = 0", "b": "i64[2] = 2 0"},
    ],
    refuse={"x": "f32[n,1,m]", "a": "i64[1] = 0", "b": "i64[1] = 2", "because": "another goes"},
)
def squeeze_of_unsqueeze(x: Value, a: Value, b: Value) -> Term:
    """Squeeze(Unsqueeze(x, a), b) = x, or what is left of the two."""
    rank = x.rank + a.array.size
    came = positives(a.array.reshape(-1).tolist(), rank)
    goes = positives(b.array.reshape(-1).tolist(), rank)
    stays, leaves = sorted(set(came) - set(goes)), sorted(set(goes) - set(came))
    if stays and leaves:
        raise Skip("one dimension stays and another goes")
    if stays:
        kept = [axis for axis in range(rank) if axis not in goes]
        return op.Unsqueeze(x, ints(*(kept.index(axis) for axis in stays)))
    if leaves:
        own = [axis for axis in range(rank) if axis not in came]
        return op.Squeeze(x, ints(*(own.index(axis) for axis in leaves)))
    return x
