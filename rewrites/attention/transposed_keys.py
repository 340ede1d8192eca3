"""Keys transposed with their batch and heads merged, as torch's exporter does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..shape.axes import permutation
from ..shape.dimensions import same_shape

x, r, p, s, y, z = var("x r p s y z")
merged = op.Reshape(x, r, attributes=y).named("merged")


@rule(
    op.Reshape(op.Transpose(merged, perm=p), s, attributes=z),
    drift="none",
    phase="canonicalise",
    example=[
        {"x": "f32[2,3,5,4]", "r": "i64[3] = -1 5 4", "p": (0, 2, 1), "s": "i64[4] = 2 3 4 5", "y": {}, "z": {}},
        {"x": "f16[2,3,5,L]", "r": "i64[3] = 6 5 -1", "p": (0, 2, 1), "s": "i64[4] = 2 3 -1 5", "y": {"allowzero": 1}}
        | {"z": {}},
    ],
    refuse=[
        {"x": "f32[2,3,4,4]", "r": "i64[3] = 12 2 4", "p": (0, 2, 1), "s": "i64[4] = 2 3 4 4", "y": {}, "z": {}}
        | {"because": "not kept"},
        {"x": "f32[2,3,5,4]", "r": "i64[3] = 6 5 4", "p": (0, 2, 1), "s": "i64[4] = 3 2 4 5", "y": {}, "z": {}}
        | {"because": "not kept"},
        {"x": "f32[2,3,5,4]", "r": "i64[3] = 6 5 4", "p": (1, 0, 2), "s": "i64[4] = 5 2 3 4", "y": {}, "z": {}}
        | {"because": "last two"},
    ],
)
def transpose_of_merged(
    x: Value, p: tuple[int, ...] | None, merged: Value, root: Value, y: Mapping[str, Any], z: Mapping[str, Any]
) -> Term:
    """Reshape(Transpose(Reshape(x, merged), 0 2 1), split) = Transpose(x) of its last two axes, at any batch."""
    if merged.rank != 3 or permutation(p, 3) != (0, 2, 1):
        raise Skip("the Transpose does not exchange the last two axes of three")
    rows, columns = x.shape[-2:] if x.rank >= 2 else (None, None)
    if not same_shape(merged.shape[1:], (rows, columns)) or not same_shape(root.shape, (*x.shape[:-2], columns, rows)):
        raise Skip("the last two axes, or the others, are not kept by the two Reshapes")
    return op.Transpose(x, perm=(*range(x.rank - 2), x.rank - 1, x.rank - 2))
