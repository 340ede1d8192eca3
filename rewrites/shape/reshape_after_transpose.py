"""Transposes move behind Reshapes that keep the moved dimensions whole, where the next Transpose may undo them."""

from __future__ import annotations

from ...compiler.facts import Dim
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import permutation
from .dimensions import align
from .reshaping import infers, reshape

x, s, p = var("x s p")


@rule(
    op.Reshape(op.Transpose(x, perm=p), s),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        # (b·h, s, d) → (b·h, d, s) → (b, h, d, s): what attention exported at opset 18 does to its keys
        {"x": "f32[8,5,6]", "p": (0, 2, 1), "s": "i64[4] = 2 4 6 5"},
        {"x": "f32[2,3,4,5]", "p": (0, 3, 1, 2), "s": "i64[3] = 2 5 12"},
        {"x": "i64[n,3,4]", "p": (0, 2, 1), "s": "i64[4] = 0 2 2 3"},
        {"x": "f32[2,3,4]", "p": (2, 0, 1), "s": "i64[5] = 1 4 1 2 3"},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "s": "i64[2] = 2 12", "because": "tears"},
        {"x": "f32[2,1,4]", "p": (0, 2, 1), "s": "i64[2] = 2 4", "because": "nothing moves"},
    ],
)
def reshape_after_transpose(x: Value, p: tuple[int, ...] | None, s: Value, root: Value) -> Term:
    """Reshape(Transpose(x, p), s) = Transpose(Reshape(x, s'), p') where every merged group lay together."""
    perm = permutation(p, x.rank)
    solid = [axis for axis in perm if x.shape[axis] != 1]
    if solid == sorted(solid):
        raise Skip("nothing moves: the Transpose is a Reshape itself")
    groups = align(tuple(x.shape[axis] for axis in perm), root.shape)
    places: list[int] = []
    for source, _ in groups:
        inside = [sorted(solid).index(perm[i]) for i in source if perm[i] in solid]
        if inside and inside != list(range(inside[0], inside[0] + len(inside))):
            raise Skip("the Reshape tears or joins dimensions that the Transpose moved apart")
        # A dimension of size 1 that comes has no place of its own: it stays behind the group before it.
        places.append(inside[0] if inside else (places[-1] if places else -1))
    order = sorted(range(len(groups)), key=lambda g: places[g])
    back = [j for g in order for j in groups[g][1]]
    shape: tuple[Dim, ...] = tuple(root.shape[j] for j in back)
    return op.Transpose(reshape(x, shape, inferring=infers(s)), perm=tuple(back.index(j) for j in range(len(back))))
