"""A Reshape between two Transposes, or a Transpose between two Reshapes: one of each is left, or less."""

from __future__ import annotations

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import Permutation, is_identity, permutation
from .dimensions import align
from .reshaping import infers, reshape, reshaped

x, s, t, p, q = var("x s t p q")


@rule(
    op.Transpose(op.Reshape(op.Transpose(x, perm=p), s), perm=q),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[2,3,4,5]", "p": (2, 0, 1, 3), "s": "i64[3] = 4 6 5", "q": (1, 0, 2)},
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "s": "i64[4] = 2 2 2 3", "q": (0, 3, 1, 2)},
        {"x": "i64[n,3,4]", "p": (0, 2, 1), "s": "i64[4] = 0 4 1 3", "q": (0, 3, 1, 2)},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "p": (0, 2, 1), "s": "i64[2] = 2 12", "q": (1, 0), "because": "tears"},
        {"x": "f32[2,1,4]", "p": (0, 2, 1), "s": "i64[2] = 2 4", "q": (1, 0), "because": "nothing moves"},
    ],
)
def reshape_between_transposes(x: Value, p: Permutation | None, s: Value, q: Permutation | None, root: Value) -> Term:
    """Transpose(Reshape(Transpose(x, p), s), q) = Transpose(Reshape(x, s'), q') where merged groups lay together."""
    perm = permutation(p, x.rank)
    outer = permutation(q, root.rank)
    middle: list[Dim] = [None] * root.rank
    for place, axis in enumerate(outer):
        middle[axis] = root.shape[place]
    shape, inner = _before(x.shape, perm, tuple(middle))
    return _transposed(reshape(x, shape, inferring=infers(s)), tuple(inner[axis] for axis in outer))


@rule(
    op.Reshape(op.Transpose(op.Reshape(x, s), perm=p), t),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        # (b, h, s, d) → (b·h, s, d) → (b·h, d, s) → (b, h, d, s): what attention exported at opset 18 does to its keys
        {"x": "f32[2,4,5,6]", "s": "i64[3] = -1 5 6", "p": (0, 2, 1), "t": "i64[4] = 2 4 6 5"},
        {"x": "f32[2,3,20]", "s": "i64[4] = 2 3 4 5", "p": (0, 2, 3, 1), "t": "i64[3] = 2 20 3"},
        {"x": "i64[n,3,4]", "s": "i64[4] = 0 1 3 4", "p": (0, 3, 1, 2), "t": "i64[3] = 0 4 3"},
    ],
    refuse={"x": "f32[2,12]", "s": "i64[3] = 2 3 4", "p": (0, 2, 1), "t": "i64[2] = 2 12", "because": "tears"},
)
def transpose_between_reshapes(x: Value, s: Value, p: Permutation | None, t: Value, root: Value) -> Term:
    """Reshape(Transpose(Reshape(x, s), p), t) = Transpose(Reshape(x, s'), p') where merged groups lay together."""
    source = reshaped(x, s)
    shape, inner = _before(source, permutation(p, len(source)), root.shape)
    return _transposed(reshape(x, shape, inferring=infers(s) or infers(t)), inner)


def _transposed(term: Term, perm: Permutation) -> Term:
    return term if is_identity(perm) else op.Transpose(term, perm=perm)


def _before(source: Shape, perm: Permutation, target: Shape) -> tuple[Shape, Permutation]:
    """A Reshape and a Transpose of `source` that give what its Transpose, then reshaped to `target`, is.

    Raises:
        Skip: the Reshape merges what the Transpose moved together, or splits what it moved apart.
    """
    solid = [axis for axis in perm if source[axis] != 1]
    if solid == sorted(solid):
        raise Skip("nothing moves: the Transpose is a Reshape itself")
    groups = align(tuple(source[axis] for axis in perm), target)
    places: list[int] = []
    for members, _ in groups:
        inside = [sorted(solid).index(perm[i]) for i in members if perm[i] in solid]
        if inside and inside != list(range(inside[0], inside[0] + len(inside))):
            raise Skip("the Reshape tears or joins dimensions that the Transpose moved apart")
        # A dimension of size 1 that comes has no place of its own: it stays behind the group before it.
        places.append(inside[0] if inside else (places[-1] if places else -1))
    order = sorted(range(len(groups)), key=lambda g: places[g])
    back = [j for g in order for j in groups[g][1]]
    return tuple(target[j] for j in back), tuple(back.index(j) for j in range(len(back)))
