"""Pads of nothing, and two in a row."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints, positives_in_order

x, p, v, a, q, w, b, m = var("x p v a q w b m")


@rule(
    op.Pad(x, p, mode=m),
    op.Pad(x, p, v, mode=m),
    op.Pad(x, p, v, a, mode=m),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxoptimizer",
    example={"x": "f32[n,3]", "p": "i64[4] = 0", "v": "f32[] = 1", "a": "i64[2] = 0 1", "m": "constant"},
    refuse={"x": "f32[2,3]", "p": "i64[4] = 0 1 0 0", "m": "edge", "pattern": 0, "because": "pads"},
)
def pad_identity(x: Value, p: Value) -> Term:
    """Pad(x, nothing) = x."""
    if not p.every(lambda amounts: not amounts.any()):
        raise Skip("the Pad pads something, or it is not known what")
    return x


@rule(
    op.Pad(op.Pad(x, p, mode="constant"), q, mode="constant"),
    op.Pad(op.Pad(x, p, v, mode="constant"), q, mode="constant"),
    op.Pad(op.Pad(x, p, mode="constant"), q, w, mode="constant"),
    op.Pad(op.Pad(x, p, v, mode="constant"), q, w, mode="constant"),
    op.Pad(op.Pad(x, p, v, a, mode="constant"), q, w, b, mode="constant"),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {
            "x": "f32[2,3]",
            "p": "i64[4] = 0 1 0 2",
            "v": "f32[] = 0",
            "q": "i64[4] = 1 0 0 1",
            "w": "f32[] = 0",
            "a": "i64[2] = 0 1",
            "b": "i64[2] = 1 0",
        },
        {
            "x": "f32[2,3]",
            "p": "i64[4] = 0 1 0 2",
            "v": "f32[] = 2",
            "q": "i64[4] = 1 0 0 1",
            "w": "f32[] = 2",
            "a": "i64[2] = 0 1",
            "b": "i64[2] = 1 0",
            "pattern": 3,
        },
    ],
    refuse=[
        {
            "x": "f32[2,3]",
            "p": "i64[4] = 1",
            "v": "f32[] = 0",
            "q": "i64[4] = 1",
            "w": "f32[] = 2",
            "pattern": 3,
            "because": "different values",
        },
        {
            "x": "f32[5,5]",
            "p": "i64[4] = 1",
            "v": "f32[] = 0",
            "q": "i64[4] = -1",
            "w": "f32[] = 0",
            "pattern": 3,
            "because": "cuts off",
        },
    ],
)
def pad_pair(x: Value, p: Value, q: Value, v: Value | None, w: Value | None, a: Value | None, b: Value | None) -> Term:
    """Pad(Pad(x, p), q) = Pad(x, p + q) with the same value."""
    first, second = _amounts(x, p, a), _amounts(x, q, b)
    if any(n < 0 for n in (*first, *second)):
        raise Skip("a Pad cuts off")
    if _number(v) != _number(w):
        raise Skip("the Pads fill in different values")
    filled = v if v is not None and v.uid else w
    return op.Pad(x, ints(*(m + n for m, n in zip(first, second, strict=True))), filled, mode="constant")


def _amounts(x: Value, pads: Value, axes: Value | None) -> list[int]:
    """Elements before every axis, then behind every axis."""
    amounts = pads.array.reshape(-1)
    present = axes is not None and axes.uid
    places = positives_in_order(axes.array.reshape(-1), x.rank) if axes and present else tuple(range(x.rank))
    full = np.zeros(2 * x.rank, dtype=np.int64)
    for place, axis in enumerate(places):
        full[axis], full[axis + x.rank] = amounts[place], amounts[place + len(places)]
    return [int(n) for n in full]


def _number(value: Value | None) -> float:
    return 0.0 if value is None or not value.uid else value.scalar
