"""What a Slice throws away need not be computed: a Slice that keeps little moves in front of what it cuts.

Worth it where nothing else needs the whole, as when a classifier reads one token of the last layer. Where many Slices
cut one value, as in an unrolled recurrence, each would bring its own copy of everything before it: so only operators of
which such layers are made are passed, and products of two computed values only in front of a matrix product.
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
SMALL = 8  # a Slice keeps little if it keeps at most one in so many
ACTIVATIONS = ("Cast", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Sigmoid", "Tanh")
WITH_CONSTANT = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")


def small_cuts(shape: Shape, s: Value, e: Value, c: Value, p: Value | None) -> Cuts:
    """The cuts of a Slice, if they leave little of some axis: a known number where its size is not known.

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
        if at_most(cut) * SMALL <= (size if isinstance(size, int) else END):
            return cuts
    raise Skip("the Slice keeps too much")


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
        example={"x": f"{dtype}[2,16]", "a": attributes, **_cut(0, 2, 1)},
        refuse={"x": f"{dtype}[2,16]", "a": attributes, **_cut(0, 3, 1), "because": "too much"},
    )


def _cut(start: int, end: int, axis: int) -> dict[str, str]:
    return {"s": f"i64[1] = {start}", "e": f"i64[1] = {end}", "c": f"i64[1] = {axis}", "p": "i64[1] = 1"}


def _binary(name: str) -> Rule:
    def before(x: Value, y: Value, s: Value, e: Value, c: Value, p: Value | None) -> Term:
        if name != "Add" and not (x.is_const or y.is_const):
            raise Skip("neither operand is a constant")
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
            {"x": f"{dtype}[2,8,3]", "y": f"{dtype}[8,1] const", **_cut(7, 8, 1)},
            {"x": f"{dtype}[2,n,3]", "y": f"{dtype}[3] const", **_cut(0, 1, 1)},
        ],
        refuse=[
            {"x": f"{dtype}[2,8]", "y": f"{dtype}[8] const", **_cut(0, 2, 1), "because": "too much"},
            {"x": f"{dtype}[2,n]", "y": f"{dtype}[m]", **_cut(0, 1, 1), "because": ""},
        ],
    )


@rule(
    op.MatMul(op.Slice(op.Mul(x, y), s, e, c), w),
    drift="rounding",
    phase="explore",
    peers="",
    example={"x": "f32[2,8,3]", "y": "f32[2,8,3]", "w": "f32[3,4]", **_cut(7, 8, 1)},
    refuse={"x": "f32[2,8,3]", "y": "f32[2,8,3]", "w": "f32[3,4]", **_cut(0, 2, 1), "because": "too much"},
)
def slice_before_gated_matmul(x: Value, y: Value, w: Value, s: Value, e: Value, c: Value) -> Term:
    """MatMul(Slice(x·y), w) = MatMul(Slice(x)·Slice(y), w): the gate of a transformer's second layer."""
    whole = broadcast(x.shape, y.shape)
    cuts = small_cuts(whole, s, e, c, None)
    return op.MatMul(op.Mul(*(write_cuts(v, v.shape, sliced(v, cuts, whole)) for v in (x, y))), w)


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
    *map(_unary, ACTIVATIONS),
    *map(_binary, WITH_CONSTANT),
    slice_before_gated_matmul,
    slice_before_softmax,
    slice_before_layer_normalization,
    slice_before_rms_normalization,
)
