"""Neighbouring Slices of one value, put side by side again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import positive
from .cuts import Cut, read_cuts, write_cuts
from .elementwise import UNARY, declare, moved, snake

LARGEST = 8  # operands
THROUGH = 4  # operands, where every one is treated element by element in between
STARTS = [f"s{i}" for i in range(LARGEST)]
ENDS = [f"e{i}" for i in range(LARGEST)]
starts, ends = [var(n) for n in STARTS], [var(n) for n in ENDS]
x, axes, k, a = var("x axes k a")


def _slices(count: int) -> list[Any]:
    return [op.Slice(x, s, e, axes) for s, e in zip(starts[:count], ends[:count], strict=True)]


def _example(count: int, borders: tuple[int, ...] | None = None) -> dict[str, Any]:
    found = borders or tuple(range(0, 2 * count + 1, 2))
    named = {STARTS[i]: f"i64[1] = {found[i]}" for i in range(count)}
    named |= {ENDS[i]: f"i64[1] = {found[i + 1]}" for i in range(count)}
    return {"pattern": count - 2, "axes": "i64[1] = 1", "k": -1, **named}


@rule(
    *(op.Concat(*_slices(n), axis=k) for n in range(2, LARGEST + 1)),
    drift="none",
    phase="canonicalise",
    peers="onnxsim fuse_split_gather_concat",
    example=[
        *({"x": f"f32[3,{2 * n}]", **_example(n)} for n in range(2, LARGEST + 1)),
        {"x": "i64[3,9]", **_example(3, (1, 4, 5, 8))},
        {"x": "f32[n,9]", **_example(3), "s2": "i64[1] = 7", "e2": "i64[1] = 9"},
    ],
    refuse=[
        {"x": "f32[3,9]", **_example(2), "s1": "i64[1] = 3", "e1": "i64[1] = 5", "because": "neighbours"},
        {"x": "f32[9,9]", **_example(2), "k": 0, "because": "another axis"},
    ],
)
def concat_of_slices(
    x: Value,
    axes: Value,
    k: int,
    s0: Value,
    s1: Value,
    s2: Value | None,
    s3: Value | None,
    s4: Value | None,
    s5: Value | None,
    s6: Value | None,
    s7: Value | None,
    e0: Value,
    e1: Value,
    e2: Value | None,
    e3: Value | None,
    e4: Value | None,
    e5: Value | None,
    e6: Value | None,
    e7: Value | None,
) -> Term:
    """Concat(x[a:b], x[b:c], …) = x[a:c], and x itself when that is all of it."""
    pairs = zip((s0, s1, s2, s3, s4, s5, s6, s7), (e0, e1, e2, e3, e4, e5, e6, e7), strict=True)
    runs = _runs(x, axes, k, [(s, e) for s, e in pairs if s is not None and e is not None])
    axis = positive(k, x.rank)
    joined = [write_cuts(x, x.shape, {axis: run}) for run in runs]
    return joined[0] if len(joined) == 1 else op.Concat(*joined, axis=axis)


def _runs(x: Value, axes: Value, k: int, pairs: list[tuple[Value, Value]]) -> list[Cut]:
    """The slices, neighbours joined.

    Raises:
        Skip: there are none, or another axis is cut too.
    """
    axis = positive(k, x.rank)
    runs: list[Cut] = []
    for s, e in pairs:
        cuts = read_cuts(x.shape, s, e, axes, None)
        if list(cuts) != [axis]:
            raise Skip("the Slices cut another axis")
        start, end, _ = cuts[axis]
        if runs and runs[-1][1] == start and start >= 0:
            runs[-1] = (runs[-1][0], end, 1)
        else:
            runs.append((start, end, 1))
    if len(runs) == len(pairs):
        raise Skip("the Slices are no neighbours")
    return runs


def _through(name: str) -> Rule:
    def joined(
        x: Value,
        axes: Value,
        k: int,
        a: Mapping[str, Any],
        s0: Value,
        s1: Value,
        s2: Value | None,
        s3: Value | None,
        e0: Value,
        e1: Value,
        e2: Value | None,
        e3: Value | None,
    ) -> Term:
        pairs = zip((s0, s1, s2, s3), (e0, e1, e2, e3), strict=True)
        runs = _runs(x, axes, k, [(s, e) for s, e in pairs if s is not None and e is not None])
        if len(runs) > 1:
            raise Skip("the Slices are no neighbours")
        return op(name)(write_cuts(x, x.shape, {positive(k, x.rank): runs[0]}), **a)

    dtype, attributes = UNARY[name]
    return declare(
        joined,
        f"concat_of_{snake(name)}_of_slices",
        f"Concat({name}(x[a:b]), {name}(x[b:c]), …) = {name}(x[a:c]).",
        *(op.Concat(*(op(name)(s, attributes=a) for s in _slices(n)), axis=k) for n in range(2, THROUGH + 1)),
        drift=moved(name),
        phase="canonicalise",
        peers="",
        example=[{"x": f"{dtype}[2,{2 * n}]", "a": attributes, **_example(n)} for n in range(2, THROUGH + 1)],
        refuse={
            "x": f"{dtype}[2,9]",
            "a": attributes,
            **_example(2),
            "s1": "i64[1] = 3",
            "e1": "i64[1] = 5",
            "because": "neighbours",
        },
    )


RULES: tuple[Rule, ...] = (concat_of_slices, *map(_through, UNARY))
