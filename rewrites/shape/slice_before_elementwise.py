"""What a Slice throws away need not be computed: Slices that keep at most half move in front of what they cut.

They are worth it where nothing else needs the whole, as when a classifier reads one token of the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.facts import Shape
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import positive
from .cuts import END, Cut, at_most, read_cuts, write_cuts
from .dimensions import broadcast, same_dim
from .elementwise import BINARY, UNARY, declare, moved, snake

x, y, w, b, s, e, c, p, a, k = var("x y w b s e c p a k")
Cuts = dict[int, Cut]


def small_cuts(shape: Shape, s: Value, e: Value, c: Value, p: Value | None) -> Cuts:
    """The cuts of a Slice, if they leave at most half of some axis, or a known number of an axis of unknown size.

    Args:
        shape: of what is cut.
        s: starts.
        e: ends.
        c: axes.
        p: steps.

    Raises:
        Skip: more is kept, or that is not known.
    """
    cuts = read_cuts(shape, s, e, c, p)
    for axis, cut in cuts.items():
        size = shape[axis]
        if at_most(cut) * 2 <= (size if isinstance(size, int) else END):
            return cuts
    raise Skip("the Slice keeps more than half")


def sliced(operand: Value, cuts: Cuts, whole: Shape) -> Cuts:
    """The cuts of a broadcasting operand whose result is cut: where it is broadcast there is nothing to cut.

    Raises:
        Skip: it is not known whether it is broadcast.
    """
    lead = len(whole) - operand.rank
    own: Cuts = {}
    for axis, cut in cuts.items():
        if axis < lead or operand.shape[axis - lead] == 1:
            continue
        if not same_dim(operand.shape[axis - lead], whole[axis]):
            raise Skip("it is not known whether an operand is broadcast")
        own[axis - lead] = cut
    return own


def _unary(name: str) -> Rule:
    def before(x: Value, s: Value, e: Value, c: Value, p: Value | None, a: Mapping[str, Any]) -> Term:
        return op(name)(write_cuts(x, x.shape, small_cuts(x.shape, s, e, c, p)), **a)

    dtype, attributes = UNARY[name]
    inner = op(name)(x, attributes=a)
    return declare(
        before,
        f"slice_before_{snake(name)}",
        f"Slice({name}(x)) = {name}(Slice(x)).",
        op.Slice(inner, s, e, c),
        op.Slice(inner, s, e, c, p),
        drift=moved(name),
        phase="explore",
        peers="",
        example={"x": f"{dtype}[2,8]", "a": attributes, **_cut(0, 4, 1)},
        refuse={"x": f"{dtype}[2,8]", "a": attributes, **_cut(0, 5, 1), "because": "more than half"},
    )


def _cut(start: int, end: int, axis: int) -> dict[str, str]:
    return {"s": f"i64[1] = {start}", "e": f"i64[1] = {end}", "c": f"i64[1] = {axis}", "p": "i64[1] = 1"}


def _binary(name: str) -> Rule:
    def before(x: Value, y: Value, s: Value, e: Value, c: Value, p: Value | None) -> Term:
        whole = broadcast(x.shape, y.shape)
        cuts = small_cuts(whole, s, e, c, p)
        return op(name)(*(write_cuts(v, v.shape, sliced(v, cuts, whole)) for v in (x, y)))

    dtype = BINARY[name]
    inner = op(name)(x, y)
    return declare(
        before,
        f"slice_before_{snake(name)}",
        f"Slice({name}(x, y)) = {name}(Slice(x), Slice(y)).",
        op.Slice(inner, s, e, c),
        op.Slice(inner, s, e, c, p),
        drift=moved(name),
        phase="explore",
        peers="",
        example=[
            {"x": f"{dtype}[2,8,3]", "y": f"{dtype}[8,1]", **_cut(4, 8, 1)},
            {"x": f"{dtype}[2,n,3]", "y": f"{dtype}[3]", **_cut(0, 1, 1)},
        ],
        refuse=[
            {"x": f"{dtype}[2,8]", "y": f"{dtype}[8]", **_cut(0, 5, 1), "because": "more than half"},
            {"x": f"{dtype}[2,n]", "y": f"{dtype}[m]", **_cut(0, 1, 1), "because": "broadcast"},
        ],
    )


@rule(
    op.Slice(op.Softmax(x, axis=k), s, e, c),
    op.Slice(op.Softmax(x, axis=k), s, e, c, p),
    drift="rounding",
    phase="explore",
    peers="",
    example={"x": "f32[2,8,3]", "k": None, **_cut(0, 1, 1)},
    refuse={"x": "f32[2,8]", "k": 1, **_cut(0, 1, 1), "because": "normalised"},
)
def slice_before_softmax(x: Value, k: int, s: Value, e: Value, c: Value, p: Value | None) -> Term:
    """Slice(Softmax(x)) = Softmax(Slice(x)) along another axis."""
    cuts = small_cuts(x.shape, s, e, c, p)
    if positive(k, x.rank) in cuts:
        raise Skip("the normalised axis is cut")
    return op.Softmax(write_cuts(x, x.shape, cuts), axis=k)


@rule(
    op.Slice(op.LayerNormalization(x, w, attributes=a), s, e, c),
    op.Slice(op.LayerNormalization(x, w, b, attributes=a), s, e, c),
    op.Slice(op.LayerNormalization(x, w, attributes=a), s, e, c, p),
    op.Slice(op.LayerNormalization(x, w, b, attributes=a), s, e, c, p),
    drift="rounding",
    phase="explore",
    peers="",
    example={"x": "f32[2,8,3]", "w": "f32[3]", "b": "f32[3]", "a": {"epsilon": 0.01}, **_cut(0, 1, 1)},
    refuse={"x": "f32[2,8]", "w": "f32[8]", "b": "f32[8]", "a": {}, **_cut(0, 1, 1), "because": "normalised"},
)
def slice_before_layer_normalization(
    x: Value,
    w: Value,
    b: Value | None,
    a: Mapping[str, Any],
    s: Value,
    e: Value,
    c: Value,
    p: Value | None,
    root: Value,
) -> Term:
    """Slice(LayerNormalization(x)) = LayerNormalization(Slice(x)) along another axis."""
    return op.LayerNormalization(_rows(x, a, small_cuts(x.shape, s, e, c, p)), w, b, **a)


@rule(
    op.Slice(op.RMSNormalization(x, w, attributes=a), s, e, c),
    op.Slice(op.RMSNormalization(x, w, attributes=a), s, e, c, p),
    drift="rounding",
    phase="explore",
    peers="",
    example={"x": "f32[2,8,3]", "w": "f32[3]", "a": {"epsilon": 0.01}, **_cut(0, 1, 1)},
    refuse={"x": "f32[2,8]", "w": "f32[8]", "a": {}, **_cut(0, 1, 1), "because": "normalised"},
)
def slice_before_rms_normalization(
    x: Value, w: Value, a: Mapping[str, Any], s: Value, e: Value, c: Value, p: Value | None
) -> Term:
    """Slice(RMSNormalization(x)) = RMSNormalization(Slice(x)) along another axis."""
    return op.RMSNormalization(_rows(x, a, small_cuts(x.shape, s, e, c, p)), w, **a)


def _rows(x: Value, a: Mapping[str, Any], cuts: Cuts) -> Term:
    if max(cuts) >= positive(a.get("axis", -1), x.rank):
        raise Skip("a normalised axis is cut")
    return write_cuts(x, x.shape, cuts)


RULES: tuple[Rule, ...] = (
    *map(_unary, UNARY),
    *map(_binary, BINARY),
    slice_before_softmax,
    slice_before_layer_normalization,
    slice_before_rms_normalization,
)
