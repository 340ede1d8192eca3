"""Reshapes move behind normalisations along dimensions that they keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.facts import Shape
from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import positive
from .dimensions import align
from .elementwise import declare, snake
from .operands import before_reshape
from .reshaping import reshaped

x, s, a, k, w, b = var("x s a k w b")


def kept_axis(source: Shape, target: Shape, axis: int) -> int:
    """The operand's dimension that is this dimension of the reshaped result.

    Raises:
        Skip: it was merged, split or made by the Reshape.
    """
    for inner, outer in align(source, target):
        if axis in outer and len(inner) == len(outer) == 1:
            return inner.start
    raise Skip("the dimension is not kept by the Reshape")


def _softmax(name: str) -> Rule:
    def past(x: Value, s: Value, k: int) -> Term:
        target = reshaped(x, s)
        axis = kept_axis(x.shape, target, positive(k, len(target)))
        return op.Reshape(op(name)(x, axis=axis), s)

    return declare(
        past,
        f"reshape_past_{snake(name)}",
        f"{name}(Reshape(x, s)) = Reshape({name}(x), s) along a dimension that is kept.",
        op(name)(op.Reshape(x, s), axis=k),
        drift="none",
        phase="canonicalise",
        peers="",
        example=[
            {"x": "f32[2,3,4]", "s": "i64[2] = -1 4", "k": None},
            {"x": "f32[6,4]", "s": "i64[3] = 2 3 4", "k": 2},
            {"x": "f32[n,4]", "s": "i64[3] = -1 1 4", "k": -1},
        ],
        refuse={"x": "f32[2,3,4]", "s": "i64[2] = 2 12", "k": None, "because": "not kept"},
    )


@rule(
    op.LayerNormalization(op.Reshape(x, s), w, attributes=a),
    op.LayerNormalization(op.Reshape(x, s), w, b, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "w": "f32[4] const", "b": "f32[4] const", "a": {"epsilon": 0.01}},
        {"x": "f32[2,3,4]", "s": "i64[2] = 2 12", "w": "f32[12] const", "b": "f32[12] const", "a": {"axis": -1}},
    ],
    refuse=[
        {"x": "f32[12,2]", "s": "i64[2] = 4 6", "w": "f32[6]", "b": "f32[6]", "a": {}, "because": "begins inside"},
        {"x": "f32[12]", "s": "i64[2] = 12 1", "w": "f32[1]", "b": "f32[1]", "a": {}, "because": "has nothing"},
    ],
)
def reshape_past_layer_normalization(
    x: Value, s: Value, w: Value, b: Value | None, a: Mapping[str, Any], root: Value
) -> Term:
    """LayerNormalization(Reshape(x, s), w, b) = Reshape(LayerNormalization(x, w', b'), s) over whole dimensions."""
    target = reshaped(x, s)
    axis, place = _first(x, target, a)
    weights = [before_reshape(v, x.shape[place:], target[axis:]) for v in (w, b) if v is not None]
    stated = {**a, "axis": place - x.rank}
    return op.Reshape(op.LayerNormalization(x, *weights, **stated), s)


@rule(
    op.RMSNormalization(op.Reshape(x, s), w, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[6,4]", "s": "i64[3] = 2 -1 4", "w": "f32[4] const", "a": {"epsilon": 0.01}},
    refuse={"x": "f32[12,2]", "s": "i64[2] = 4 6", "w": "f32[6]", "a": {}, "because": "begins inside"},
)
def reshape_past_rms_normalization(x: Value, s: Value, w: Value, a: Mapping[str, Any]) -> Term:
    """RMSNormalization(Reshape(x, s), w) = Reshape(RMSNormalization(x, w'), s) over whole dimensions."""
    target = reshaped(x, s)
    axis, place = _first(x, target, a)
    stated = {**a, "axis": place - x.rank}
    return op.Reshape(op.RMSNormalization(x, before_reshape(w, x.shape[place:], target[axis:]), **stated), s)


def _first(x: Value, target: Shape, a: Mapping[str, Any]) -> tuple[int, int]:
    """The first normalised dimension of the result, and of the operand."""
    axis = positive(a.get("axis", -1), len(target))
    for inner, outer in align(x.shape, target):
        if outer.start == axis and len(outer) and inner.start < x.rank:
            return axis, inner.start
    raise Skip("the normalisation begins inside a merged dimension, or has nothing to normalise before the Reshape")


RULES: tuple[Rule, ...] = (
    *map(_softmax, ("Softmax", "LogSoftmax", "Hardmax")),
    reshape_past_layer_normalization,
    reshape_past_rms_normalization,
)
