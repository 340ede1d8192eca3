"""Reshapes and Transposes move behind quantisation: codes move as cheaply as numbers, or four times as cheaply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Rule, Skip, Term, Value, op, var
from .axes import Permutation, permutation, positive
from .elementwise import declare, snake

x, t, p, s, z, a = var("x t p s z a")
PEERS = "ORT L1 QDQPropagation, TransposeOptimizer"
OPERATORS: Mapping[str, tuple[str, str]] = {"QuantizeLinear": ("f32", "u8"), "DequantizeLinear": ("u8", "u8")}


def _reshape(name: str) -> Rule:
    def past(x: Value, t: Value, s: Value, z: Value | None, a: Mapping[str, Any]) -> Term:
        if s.size != 1 or s.rank > 0 or a.get("block_size"):
            raise Skip("the scale is not one number")
        return op.Reshape(op(name)(x, s, z, **a), t)

    dtype, zero = OPERATORS[name]
    return declare(
        past,
        f"reshape_past_{snake(name)}",
        f"{name}(Reshape(x, t), s) = Reshape({name}(x, s), t) for one scale.",
        op(name)(op.Reshape(x, t), s, attributes=a),
        op(name)(op.Reshape(x, t), s, z, attributes=a),
        drift="none",
        phase="canonicalise",
        peers=PEERS,
        example={"x": f"{dtype}[2,6]", "t": "i64[2] = 4 3", "s": "f32[] = 0.5", "z": f"{zero}[] = 3", "a": {}},
        refuse={
            "x": f"{dtype}[2,6]",
            "t": "i64[2] = 4 3",
            "s": "f32[3] const",
            "z": f"{zero}[3] const",
            "a": {},
            "because": "not one number",
        },
    )


def _transpose(name: str) -> Rule:
    def past(x: Value, p: Permutation | None, s: Value, z: Value | None, a: Mapping[str, Any]) -> Term:
        perm = permutation(p, x.rank)
        if s.rank > 1 or a.get("block_size"):
            raise Skip("the scales are in blocks")
        stated = dict(a) if s.rank == 0 else {**a, "axis": perm[positive(a.get("axis", 1), x.rank)]}
        return op.Transpose(op(name)(x, s, z, **stated), perm=perm)

    dtype, zero = OPERATORS[name]
    return declare(
        past,
        f"transpose_past_{snake(name)}",
        f"{name}(Transpose(x), s) = Transpose({name}(x, s)), along the axis that moved.",
        op(name)(op.Transpose(x, perm=p), s, attributes=a),
        op(name)(op.Transpose(x, perm=p), s, z, attributes=a),
        drift="none",
        phase="canonicalise",
        peers=PEERS,
        example=[
            {"x": f"{dtype}[2,3,4]", "p": (0, 2, 1), "s": "f32[] = 0.5", "z": f"{zero}[] = 3", "a": {}},
            {
                "x": f"{dtype}[2,3,4]",
                "p": (0, 2, 1),
                "s": "f32[3] = 0.5 0.25 1",
                "z": f"{zero}[3] const",
                "a": {"axis": 2},
            },
        ],
        refuse={
            "x": f"{dtype}[2,3,4]",
            "p": (0, 2, 1),
            "s": "f32[2,4,1] const",
            "z": f"{zero}[2,4,1] const",
            "a": {"axis": 2, "block_size": 3},
            "because": "blocks",
        },
    )


RULES: tuple[Rule, ...] = (*map(_reshape, OPERATORS), *map(_transpose, OPERATORS))
