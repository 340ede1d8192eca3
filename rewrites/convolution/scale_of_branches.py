"""A number per channel after a join of branches goes to the branches, where convolutions take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Rest, Skip, Term, Value, op, rule, var
from ..linear.operands import along, ints, require_factor, require_float
from .batch_normalization import on_axis
from .weights import by_output, channel_dims, output_channels

x, y, w, b, v, d, c, a, e, axis = var("x y w b v d c a e axis")
xs = Rest("xs")
MOST = 4  # branches: a longer Concat (DenseNet) shares its parts with others, which would all be computed again

JOIN = {"xs": ("f32[2,1,4]", "f32[2,3,4]"), "axis": 1, "c": "f32[4,1] const"}
BRANCHES = {
    "x": "f32[2,4,5]",
    "w": "f32[6,4,1] const",
    "b": "f32[6] const",
    "a": {},
    "y": "f32[2,3,5]",
    "v": "f32[6,3,3] const",
    "d": "f32[6] const",
    "e": {"pads": (1, 1)},
    "c": "f32[6,1] const",
}


def _shares(xs: tuple[Value, ...], c: Value, axis: int) -> list[tuple[Value, Term]]:
    """Each branch with its share of the constant."""
    require_float(xs[0])
    require_factor(c)
    if not 1 < len(xs) <= MOST:
        raise Skip("the branches are too many")
    rank = xs[0].rank
    axis %= rank
    sizes = [d for d in (x.shape[axis] for x in xs) if isinstance(d, int)]
    if len(sizes) != len(xs):
        raise Skip("the size of a branch is not known")
    vector = along(c, axis, (*(None,) * axis, sum(sizes), *(None,) * (rank - axis - 1)))
    found: list[tuple[Value, Term]] = []
    for k, branch in enumerate(xs):
        share = op.Slice(vector, ints(sum(sizes[:k])), ints(sum(sizes[: k + 1])), ints(0))
        found.append((branch, on_axis(share, axis, rank)))
    return found


@rule(
    op.Mul(op.Concat(xs, axis=axis), c),
    drift="none",
    example=[
        JOIN,
        {**JOIN, "axis": -2, "c": "f32[1] = 2"},
        {"xs": ("f32[N,2]", "f32[N,3]"), "axis": 1, "c": "f32[5] const"},
    ],
    refuse=[
        {**JOIN, "c": "f32[4,4] const", "because": "another axis"},
        {**JOIN, "c": "f32[4,1]", "because": "computed"},
    ],
)
def scale_of_concat(xs: tuple[Value, ...], c: Value, axis: int) -> Term:
    """Concat(x, y)·c = Concat(x·c', y·c'') for a constant c along the axis of the Concat."""
    return op.Concat(*(op.Mul(branch, share) for branch, share in _shares(xs, c, axis)), axis=axis)


@rule(
    op.Add(op.Concat(xs, axis=axis), c),
    drift="none",
    example=[JOIN, {**JOIN, "axis": -2, "c": "f32[1] = 2"}],
    refuse={**JOIN, "c": "f32[4,4] const", "because": "another axis"},
)
def shift_of_concat(xs: tuple[Value, ...], c: Value, axis: int) -> Term:
    """Concat(x, y) + c = Concat(x + c', y + c'') for a constant c along the axis of the Concat."""
    return op.Concat(*(op.Add(branch, share) for branch, share in _shares(xs, c, axis)), axis=axis)


first, first_bias = op.Conv(x, w, attributes=a), op.Conv(x, w, b, attributes=a)
second, second_bias = op.Conv(y, v, attributes=e), op.Conv(y, v, d, attributes=e)


def _scaled(x: Value, w: Value, b: Value | None, vector: Term, a: Mapping[str, Any]) -> Term:
    return op.Conv(x, op.Mul(w, by_output(w, vector)), None if b is None else op.Mul(b, vector), **a)


@rule(
    op.Mul(op.Add(first, second), c),
    op.Mul(op.Add(first_bias, second), c),
    op.Mul(op.Add(first_bias, second_bias), c),
    drift="rounding",
    example=[BRANCHES, {**BRANCHES, "c": "f32[] = 2"}],
    refuse=[
        {**BRANCHES, "c": "f32[5] const", "because": "another axis"},
        {**BRANCHES, "v": "f32[6,3,3]", "because": "computed"},
    ],
)
def scale_of_sum_of_convs(
    x: Value,
    w: Value,
    b: Value | None,
    y: Value,
    v: Value,
    d: Value | None,
    c: Value,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """(Conv(x, w, b) + Conv(y, v, d))·c = Conv(x, w·c, b·c) + Conv(y, v·c, d·c) for a number c per channel."""
    require_float(x)
    require_factor(c)
    channels = output_channels(w)
    if output_channels(v) != channels:
        raise Skip("the branches differ in channels")
    vector = along(c, 1, channel_dims(w, channels))
    return op.Add(_scaled(x, w, b, vector, a), _scaled(y, v, d, vector, e))
