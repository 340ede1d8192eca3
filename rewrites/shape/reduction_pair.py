"""Two reductions in a row, and dimensions of size 1 that are kept to be dropped, or dropped to come back."""

from __future__ import annotations

from ...compiler.facts import Shape
from ...compiler.rule import Rule, Skip, Term, Value, op, var
from .axes import constant_axes, ints, positive
from .dimensions import same_shape
from .elementwise import declare, snake
from .reductions import ASSOCIATIVE, REDUCTIONS, REORDERED
from .reshaping import reshape_expression

x, a, b, k, m, s, last = var("x a b k m s last")


def _pair(name: str) -> Rule:
    def once(x: Value, a: Value, b: Value, k: int, m: int, root: Value) -> Term:
        first = constant_axes(a, x.rank)
        left = list(range(x.rank)) if k else [i for i in range(x.rank) if i not in first]
        both = sorted({*first, *(left[i] for i in constant_axes(b, len(left)))})
        if k == m:
            return op(name)(x, ints(*both), keepdims=k)
        kept = tuple(d for i, d in enumerate(x.shape) if i not in both)
        return reshape_expression(op(name)(x, ints(*both), keepdims=0), kept, root.shape)

    return declare(
        once,
        f"{snake(name)}_pair",
        f"{name}({name}(x, a), b) = {name}(x, a and b).",
        op(name)(op(name)(x, a, keepdims=k), b, keepdims=m),
        drift=REORDERED,
        phase="canonicalise",
        peers="onnxsim fuse_consecutive_reduce",
        example=[
            {"x": "f32[2,3,4]", "a": "i64[1] = 1", "b": "i64[1] = 1", "k": 0, "m": 0},
            {"x": "f32[2,3,4]", "a": "i64[1] = -1", "b": "i64[1] = -2", "k": 1, "m": 1},
            {"x": "f32[2,3,4]", "a": "i64[1] = 0", "b": "i64[1] = 1", "k": 0, "m": 1},
            {"x": "f32[n,3,4]", "a": "i64[1] = 2", "b": "i64[1] = 1", "k": 1, "m": 0},
        ],
    )


def _keep(name: str) -> Rule:
    def kept(x: Value, a: Value, k: int, root: Value) -> Term:
        return op(name)(x, a, keepdims=_other(x.shape, set(constant_axes(a, x.rank)), k, root.shape))

    return declare(
        kept,
        f"{snake(name)}_keepdims",
        f"Reshape({name}(x, keepdims)) = {name}(x, not keepdims) when the Reshape drops or brings back just these.",
        op.Reshape(op(name)(x, a, keepdims=k), s),
        drift="none",
        phase="canonicalise",
        peers="onnxslim, onnxoptimizer fuse_consecutive_reduce_unsqueeze",
        example=[
            {"x": "f32[2,3,4]", "a": "i64[2] = 1 2", "k": 1, "s": "i64[1] = 2"},
            {"x": "f32[n,3,4]", "a": "i64[1] = -1", "k": 0, "s": "i64[3] = 0 3 1"},
        ],
        refuse=[
            {"x": "f32[2,3,4]", "a": "i64[1] = 1", "k": 0, "s": "i64[3] = 1 2 4", "because": "something else"},
            {"x": "f32[2,1,4]", "a": "i64[1] = 2", "k": 1, "s": "i64[1] = 2", "because": "something else"},
        ],
    )


def _arg(name: str) -> Rule:
    def kept(x: Value, a: int, k: int, last: int, root: Value) -> Term:
        other = _other(x.shape, {positive(a, x.rank)}, k, root.shape)
        return op(name)(x, axis=a, keepdims=other, select_last_index=last)

    return declare(
        kept,
        f"{snake(name)}_keepdims",
        f"Reshape({name}(x, keepdims)) = {name}(x, not keepdims) when the Reshape drops or brings back just that.",
        op.Reshape(op(name)(x, axis=a, keepdims=k, select_last_index=last), s),
        drift="none",
        phase="canonicalise",
        peers="onnxsim",
        example=[
            {"x": "f32[2,3,4]", "a": 1, "k": 1, "last": 0, "s": "i64[2] = 2 4"},
            {"x": "f32[n,3]", "a": -1, "k": 0, "last": 1, "s": "i64[2] = 0 1"},
        ],
        refuse={"x": "f32[2,3]", "a": 1, "k": 0, "last": 0, "s": "i64[2] = 1 2", "because": "something else"},
    )


def _other(shape: Shape, reduced: set[int], keep: int, wanted: Shape) -> int:
    """The other value of keepdims, if that gives the shape wanted."""
    if keep:
        found = tuple(d for i, d in enumerate(shape) if i not in reduced)
    else:
        found = tuple(1 if i in reduced else d for i, d in enumerate(shape))
    if not same_shape(found, wanted):
        raise Skip("the Reshape does something else")
    return 1 - keep


RULES: tuple[Rule, ...] = (
    *map(_pair, ASSOCIATIVE),
    *map(_keep, REDUCTIONS),
    *map(_arg, ("ArgMax", "ArgMin")),
)
