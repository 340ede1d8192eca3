"""Transposes move behind normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import Permutation, permutation, positive
from .elementwise import declare, snake

x, p, a, k, w, b = var("x p a k w b")


def _softmax(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, k: int) -> Term:
        perm = permutation(p, x.rank)
        return op.Transpose(op(name)(x, axis=perm[positive(k, x.rank)]), perm=perm)

    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x), axis) = Transpose({name}(x, axis')).",
        op(name)(op.Transpose(x, perm=p), axis=k),
        drift="rounding",
        phase="canonicalise",
        peers="ORT L1 TransposeOptimizer",
        example=[
            {"x": "f32[2,3,4]", "p": (0, 2, 1), "k": None},
            {"x": "f32[2,3,n]", "p": (1, 0, 2), "k": 2},
        ],
    )


@rule(
    op.LayerNormalization(op.Transpose(x, perm=p), w, attributes=a),
    op.LayerNormalization(op.Transpose(x, perm=p), w, b, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3,4]", "p": (1, 0, 2), "w": "f32[4] const", "b": "f32[4]", "a": {"epsilon": 0.01}},
        {"x": "f32[2,3,4,5]", "p": (1, 0, 2, 3), "w": "f32[4,5]", "b": "f32[5]", "a": {"axis": 2}},
    ],
    refuse={"x": "f32[2,3,4]", "p": (0, 2, 1), "w": "f32[3]", "b": "f32[3]", "a": {}, "because": "normalised"},
)
def transpose_past_layer_normalization(
    x: Value, p: Permutation | None, w: Value, b: Value | None, a: Mapping[str, Any]
) -> Term:
    """LayerNormalization(Transpose(x)) = Transpose(LayerNormalization(x)) when no normalised dimension moves."""
    perm = _checked(x, p, a)
    weights = [v for v in (w, b) if v is not None]
    return op.Transpose(op.LayerNormalization(x, *weights, **a), perm=perm)


@rule(
    op.RMSNormalization(op.Transpose(x, perm=p), w, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3,4]", "p": (1, 0, 2), "w": "f32[4] const", "a": {"epsilon": 0.01}},
    refuse={"x": "f32[2,3,4]", "p": (0, 2, 1), "w": "f32[3]", "a": {}, "because": "normalised"},
)
def transpose_past_rms_normalization(x: Value, p: Permutation | None, w: Value, a: Mapping[str, Any]) -> Term:
    """RMSNormalization(Transpose(x)) = Transpose(RMSNormalization(x)) when no normalised dimension moves."""
    return op.Transpose(op.RMSNormalization(x, w, **a), perm=_checked(x, p, a))


def _checked(x: Value, p: Permutation | None, a: Mapping[str, Any]) -> Permutation:
    perm = permutation(p, x.rank)
    first = positive(a.get("axis", -1), x.rank)
    if perm[first:] != tuple(range(first, x.rank)):
        raise Skip("a normalised dimension is moved")
    return perm


RULES: tuple[Rule, ...] = (
    *map(_softmax, ("Softmax", "LogSoftmax")),
    transpose_past_layer_normalization,
    transpose_past_rms_normalization,
)
