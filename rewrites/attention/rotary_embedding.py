"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864) recognised as ONNX's RotaryEmbedding (opset 23)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from ..shape.dimensions import same_shape
from .operands import require_last, require_number
from .repeated_heads import repeats
from .rotary_swap import stacked
from .rotary_tables import Tables, is_interleaved, parts, require_rotatable, rotated, second_part

x, c, s, i, j, g, a, b, e, f, r, u, w, z = var("x c s i j g a b e f r u w z")
HALF, PAIR = "i64[4] = 2 3 0 1", "i64[4] = 1 0 3 2"
# Two positions of width 4: cosines twice, sines with both signs.
COS, SIN = "= 0.5 0.25 0.5 0.25 0.1 0.2 0.1 0.2", "= -0.5 -0.7 0.5 0.7 -0.1 -0.2 0.1 0.2"
COS2, SIN2 = "= 0.5 0.5 0.25 0.25 0.1 0.1 0.2 0.2", "= -0.5 0.5 -0.7 0.7 -0.1 0.1 -0.2 0.2"


@rule(
    op.Add(op.Mul(x, c), op.Mul(op.Gather(x, i, axis=a), s)),
    drift="rounding",
    peers="onnxscript (com.microsoft), onnxsim",
    example=[
        {"x": "f32[1,3,2,4]", "i": HALF, "a": -1, "c": f"f32[1,1,2,4] {COS}", "s": f"f32[1,1,2,4] {SIN}"},
        {"x": "f32[2,3,2,4]", "i": HALF, "a": 3, "c": f"f32[2,4] {COS}", "s": f"f32[1,2,4] {SIN}"},
        {"x": "f32[B,3,2,4]", "i": PAIR, "a": 3, "c": f"f32[1,1,2,4] {COS2}", "s": f"f32[1,1,2,4] {SIN2}"},
        {"x": "f32[2,2,3,4]", "i": PAIR, "a": 3, "c": f"f32[1,2,1,4] {COS2}", "s": f"f32[2,1,4] {SIN2}"},
        {"x": "f16[2,3,2,4]", "i": HALF, "a": 3, "c": f"f16[2,1,2,4] {COS}", "s": f"f16[2,1,2,4] {SIN}"},
        {"x": "f32[3,2,4]", "i": HALF, "a": 2, "c": f"f32[2,4] {COS}", "s": f"f32[1,2,4] {SIN}"},
    ],
    refuse=[
        {"x": "f32[1,3,2,4]", "i": HALF, "a": -1, "c": f"f32[2,4] {COS2}", "s": f"f32[2,4] {SIN}", "because": "twice"},
        {"x": "f32[1,3,2,4]", "i": HALF, "a": -1, "c": f"f32[2,4] {COS}", "s": f"f32[2,4] {COS}", "because": "twice"},
        {"x": "f32[1,3,2,4]", "i": HALF, "a": -1, "c": "f32[2,4]", "s": f"f32[2,4] {SIN}", "because": "twice"},
        {"x": "f32[1,3,2,4]", "i": "i64[4] = 0 1 3 2", "a": -1, "c": f"f32[2,4] {COS}", "s": f"f32[2,4] {SIN}"}
        | {"because": "change places"},
        {"x": "f64[1,3,2,4]", "i": HALF, "a": -1, "c": f"f64[2,4] {COS}", "s": f"f64[2,4] {SIN}", "because": "float32"},
        {"x": "f32[1,3,2,4]", "i": HALF, "a": -1, "c": f"f32[2,1,4] {COS}", "s": f"f32[2,4] {SIN}"}
        | {"because": "differ in shape"},
        {"x": "f32[2,2,3,4]", "i": HALF, "a": -1, "c": f"f32[2,1,1,4] {COS}", "s": f"f32[2,1,1,4] {SIN}"}
        | {"because": "as long"},
    ],
)
def rotary_constant_tables(x: Value, c: Value, s: Value, i: Value, a: int) -> Term:
    """x·[c c] + swap(x)·[-s s] = RotaryEmbedding(x, c, s) for constant tables."""
    require_rotatable(x)
    require_last(a, x.rank)
    size = require_number(x.shape[-1], "the width of a head")
    interleaved = is_interleaved(i.array, size)

    def is_doubled(table: Array, sign: int) -> bool:
        if table.ndim == 0 or table.shape[-1] != size:
            return False
        first, second = parts(table, interleaved=interleaved)
        return bool(np.array_equal(np.multiply(first, sign, dtype=first.dtype), second))

    if not c.every(lambda table: is_doubled(table, 1)) or not s.every(lambda table: is_doubled(table, -1)):
        raise Skip("the tables are not constants in which every number stands twice")
    cos = second_part(c, size, interleaved=interleaved)
    sin = second_part(s, size, interleaved=interleaved)
    shape, cos, sin = _one_rank(cos, (*c.shape[:-1], size // 2), sin, (*s.shape[:-1], size // 2))
    return rotated(x, x.shape, Tables(cos, sin, shape), interleaved=interleaved)


def _one_rank(
    cos: Term, cos_shape: tuple[int | str | None, ...], sin: Term, sin_shape: tuple[int | str | None, ...]
) -> tuple[tuple[int | str | None, ...], Term, Term]:
    """Both tables in the same shape; they may differ in ones in front.

    Raises:
        Skip: they differ in more.
    """
    rank = max(len(cos_shape), len(sin_shape))
    long_cos, long_sin = ((1,) * (rank - len(shape)) + shape for shape in (cos_shape, sin_shape))
    if not same_shape(long_cos, long_sin):
        raise Skip("the tables of cosines and sines differ in shape, or are not known not to")
    return long_cos, _widened(cos, len(cos_shape), rank), _widened(sin, len(sin_shape), rank)


def _widened(table: Term, rank: int, wanted: int) -> Term:
    axes = np.arange(wanted - rank, dtype=np.int64)
    return op.Unsqueeze(table, axes) if axes.size else table


@rule(
    op.Add(op.Mul(x, op.Concat(c, c, axis=e)), op.Mul(op.Gather(x, i, axis=a), op.Mul(op.Concat(s, s, axis=f), g))),
    drift="rounding",
    peers="onnxscript (com.microsoft), onnxsim",
    example=[
        {"x": "f32[2,3,L,4]", "i": HALF, "a": -1, "c": "f32[1,1,L,2]", "s": "f32[1,1,L,2]", "e": -1, "f": 3}
        | {"g": "f32[4] = -1 -1 1 1"},
        {"x": "f16[2,3,L,4]", "i": HALF, "a": -1, "c": "f16[2,1,L,2]", "s": "f16[2,1,L,2]", "e": -1, "f": 3}
        | {"g": "f16[1,4] = -1 -1 1 1"},
        {"x": "f32[B,L,3,4]", "i": HALF, "a": -1, "c": "f32[B,L,1,2]", "s": "f32[B,L,1,2]", "e": -1, "f": 3}
        | {"g": "f32[4] = -1 -1 1 1"},
    ],
    refuse=[
        {"x": "f32[2,3,L,4]", "i": HALF, "a": -1, "c": "f32[1,1,L,2]", "s": "f32[1,1,L,2]", "e": -1, "f": 3}
        | {"g": "f32[4] = -1 1 1 1", "because": "signs"},
        {"x": "f32[2,3,5,4]", "i": PAIR, "a": -1, "c": "f32[1,1,5,2]", "s": "f32[1,1,5,2]", "e": -1, "f": 3}
        | {"g": "f32[4] = -1 -1 1 1", "because": "halves"},
        {"x": "f32[2,3,L,4]", "i": HALF, "a": -1, "c": "f32[1,1,S,2]", "s": "f32[1,1,S,2]", "e": -1, "f": 3}
        | {"g": "f32[4] = -1 -1 1 1", "because": "as long"},
    ],
)
def rotary_halves_of_tables(x: Value, c: Value, s: Value, i: Value, g: Value, a: int, e: int, f: int) -> Term:
    """x·[c c] + swap(x)·[-s s] = RotaryEmbedding(x, c, s) for tables computed from positions."""
    size = _require_signs(x, i, g, a, interleaved=False)
    require_last(e, c.rank)
    require_last(f, s.rank)
    if c.shape[-1] != size // 2 or s.shape[-1] != size // 2:
        raise Skip("the tables are not half as wide as a head")
    shape, cos, sin = _one_rank(c, c.shape, s, s.shape)
    return rotated(x, x.shape, Tables(cos, sin, shape), interleaved=False)


@rule(
    op.Add(op.Mul(x, op.Gather(c, j, axis=e)), op.Mul(op.Gather(x, i, axis=a), op.Mul(op.Gather(s, j, axis=f), g))),
    drift="rounding",
    example=[
        {"x": "f32[2,3,L,4]", "i": PAIR, "a": -1, "c": "f32[1,1,L,2]", "s": "f32[1,1,L,2]", "e": 3, "f": 3}
        | {"g": "f32[4] = -1 1 -1 1", "j": "i64[4] = 0 0 1 1"},
        {"x": "f16[B,L,3,4]", "i": PAIR, "a": -1, "c": "f16[B,L,1,2]", "s": "f16[B,L,1,2]", "e": -1, "f": -1}
        | {"g": "f16[4] = -1 1 -1 1", "j": "i64[4] = 0 0 1 1"},
    ],
    refuse=[
        {"x": "f32[2,3,L,4]", "i": PAIR, "a": -1, "c": "f32[1,1,L,2]", "s": "f32[1,1,L,2]", "e": 3, "f": 3}
        | {"g": "f32[4] = -1 1 -1 1", "j": "i64[4] = 0 1 0 1", "because": "in a row"},
        {"x": "f32[2,3,L,4]", "i": HALF, "a": -1, "c": "f32[1,1,L,2]", "s": "f32[1,1,L,2]", "e": 3, "f": 3}
        | {"g": "f32[4] = -1 1 -1 1", "j": "i64[4] = 0 0 1 1", "because": "neighbours"},
    ],
)
def rotary_neighbours_of_tables(
    x: Value, c: Value, s: Value, i: Value, j: Value, g: Value, a: int, e: int, f: int
) -> Term:
    """x·[c₀ c₀ c₁ c₁ …] + swap(x)·[-s₀ s₀ -s₁ s₁ …] = RotaryEmbedding(x, c, s, interleaved=1)."""
    size = _require_signs(x, i, g, a, interleaved=True)
    require_last(e, c.rank)
    require_last(f, s.rank)
    if repeats(j, require_number(c.shape[-1], "the width of a table")) != 2 or 2 * int(j.array.max() + 1) != size:
        raise Skip("the tables are not half as wide as a head")
    shape, cos, sin = _one_rank(c, c.shape, s, s.shape)
    return rotated(x, x.shape, Tables(cos, sin, shape), interleaved=True)


def _require_signs(x: Value, i: Value, g: Value, a: int, *, interleaved: bool) -> int:
    """The width of a head, whose halves or neighbours change places and signs as they must."""
    require_rotatable(x)
    require_last(a, x.rank)
    size = require_number(x.shape[-1], "the width of a head")
    if is_interleaved(i.array, size) != interleaved:
        raise Skip("halves change places where neighbours should, or neighbours where halves should")
    signs = g.array
    if signs.size != size or any(d != 1 for d in signs.shape[:-1]):
        raise Skip("the signs are not as many as a head is wide")
    first, second = parts(signs, interleaved=interleaved)
    if not (np.all(first == -1) and np.all(second == 1)):
        raise Skip("the signs are not those of a rotation")
    return size


turned = op.Sub(op.Mul(a, c), op.Mul(b, s)), op.Add(op.Mul(b, c), op.Mul(a, s))


@rule(
    op.Concat(*turned, axis=e),
    drift="rounding",
    example=[
        {"a": "f32[2,3,5,4]", "b": "f32[2,3,5,4]", "c": "f32[5,4] const", "s": "f32[1,5,4] const", "e": -1},
        {"a": "f32[B,3,L,4]", "b": "f32[B,3,L,4]", "c": "f32[B,1,L,4]", "s": "f32[B,1,L,4]", "e": 3},
        {"a": "f16[2,5,3,4]", "b": "f16[2,5,3,4]", "c": "f16[5,1,4]", "s": "f16[1,5,1,4]", "e": 3},
    ],
    refuse=[
        {"a": "f32[2,3,5,4]", "b": "f32[2,3,5,4]", "c": "f32[5,4]", "s": "f32[5,4]", "e": 1, "because": "not the last"},
        {"a": "f32[2,3,5,4]", "b": "f32[2,3,5,1]", "c": "f32[5,4]", "s": "f32[5,4]", "e": -1, "because": "alike"},
        {"a": "f32[2,3,5,4]", "b": "f32[2,3,5,4]", "c": "f32[4]", "s": "f32[5,4]", "e": -1, "because": "differ"},
    ],
)
def rotary_of_halves(a: Value, b: Value, c: Value, s: Value, e: int) -> Term:
    """Concat(a·c - b·s, b·c + a·s) = RotaryEmbedding(Concat(a, b), c, s)."""
    require_last(e, a.rank)
    return _of_parts(a, b, c, s, op.Concat(a, b, axis=-1), interleaved=False)


def _of_parts(a: Value, b: Value, c: Value, s: Value, whole: Expression, *, interleaved: bool) -> Term:
    require_rotatable(a)
    if not same_shape(a.shape, b.shape):
        raise Skip("the parts are not known to be alike in shape")
    half = require_number(a.shape[-1], "the width of a part")
    if c.rank == 0 or c.shape[-1] != half:
        raise Skip("the tables are not as wide as a part")
    shape, cos, sin = _one_rank(c, c.shape, s, s.shape)
    return rotated(whole, (*a.shape[:-1], 2 * half), Tables(cos, sin, shape), interleaved=interleaved)


@rule(
    op.Reshape(op.Concat(op.Unsqueeze(turned[0], u), op.Unsqueeze(turned[1], w), axis=e), r, attributes=z),
    drift="rounding",
    example=[
        {"a": "f32[2,3,5,4]", "b": "f32[2,3,5,4]", "c": "f32[5,4] const", "s": "f32[1,5,4] const", "e": -1}
        | {"u": "i64[1] = -1", "w": "i64[1] = 4", "r": "i64[4] = 2 3 5 8", "z": {"allowzero": 1}},
        {"a": "f16[2,5,3,4]", "b": "f16[2,5,3,4]", "c": "f16[5,1,4]", "s": "f16[5,1,4]", "e": 4}
        | {"u": "i64[1] = -1", "w": "i64[1] = 4", "r": "i64[4] = 2 5 3 8", "z": {}},
    ],
    refuse={"a": "f32[2,3,5,4]", "b": "f32[2,3,5,4]", "c": "f32[5,4]", "s": "f32[5,4]", "e": -1}
    | {"u": "i64[1] = -1", "w": "i64[1] = 4", "r": "i64[3] = 6 5 8", "z": {}, "because": "side by side"},
)
def rotary_of_neighbours(
    a: Value,
    b: Value,
    c: Value,
    s: Value,
    u: Value,
    w: Value,
    e: int,
    r: Value,
    z: Mapping[str, Any],
    root: Value,
) -> Term:
    """Stack(a·c - b·s, b·c + a·s) merged = RotaryEmbedding(Stack(a, b) merged, c, s, interleaved=1)."""
    whole = stacked(a, b, u, w, e, r, z)
    half = require_number(a.shape[-1], "the width of a part")
    if not same_shape(root.shape, (*a.shape[:-1], 2 * half)):
        raise Skip("the pairs do not stand side by side in the result")
    return _of_parts(a, b, c, s, whole, interleaved=True)
