"""Rows and columns of a matrix product that a Slice throws away need not be computed."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .cuts import write_cuts
from .dimensions import broadcast
from .slice_before_elementwise import sliced, small_cuts

x, y, z, s, e, c, p, a, b, t, u, i = var("x y z s e c p a b t u i")


@rule(
    op.Slice(op.MatMul(x, y), s, e, c),
    op.Slice(op.MatMul(x, y), s, e, c, p),
    drift="rounding",
    phase="explore",
    peers="onnxoptimizer adjust_slice_and_matmul (opt-in)",
    example=[
        {
            "x": "f32[2,8,3]",
            "y": "f32[3,5]",
            "s": "i64[1] = 7",
            "e": "i64[1] = 8",
            "c": "i64[1] = 1",
            "p": "i64[1] = 1",
        },
        {
            "x": "f32[32,4,3]",
            "y": "f32[32,3,5]",
            "s": "i64[1] = 0",
            "e": "i64[1] = 4",
            "c": "i64[1] = 0",
            "p": "i64[1] = 2",
        },
        {
            "x": "f32[2,n,3]",
            "y": "f32[3,32] const",
            "s": "i64[1] = 4",
            "e": "i64[1] = 8",
            "c": "i64[1] = 2",
            "p": "i64[1] = 1",
        },
    ],
    refuse=[
        {
            "x": "f32[2,8,3]",
            "y": "f32[3,8]",
            "s": "i64[1] = 7",
            "e": "i64[1] = 8",
            "c": "i64[1] = 2",
            "pattern": 0,
            "because": "no constant",
        },
        {
            "x": "f32[8]",
            "y": "f32[8,8]",
            "s": "i64[1] = 7",
            "e": "i64[1] = 8",
            "c": "i64[1] = 0",
            "pattern": 0,
            "because": "vector",
        },
    ],
)
def slice_before_matmul(x: Value, y: Value, s: Value, e: Value, c: Value, p: Value | None) -> Term:
    """Slice(MatMul(x, y)) = MatMul(Slice(x), Slice(y)): x loses rows, y columns if it is a constant."""
    if x.rank < 2 or y.rank < 2:
        raise Skip("an operand is a vector")
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    rows, columns = len(batch), len(batch) + 1
    cuts = small_cuts((*batch, x.shape[-2], y.shape[-1]), s, e, c, p)
    if columns in cuts and not y.is_const:
        raise Skip("columns are cut and the second operand is no constant")
    common = {axis: cut for axis, cut in cuts.items() if axis < rows}
    left = sliced(x, common, (*batch, None, None))
    right = sliced(y, common, (*batch, None, None))
    if rows in cuts:
        left[x.rank - 2] = cuts[rows]
    if columns in cuts:
        right[y.rank - 1] = cuts[columns]
    return op.MatMul(write_cuts(x, x.shape, left), write_cuts(y, y.shape, right))


@rule(
    op.Slice(op.Gemm(x, y, alpha=a, beta=b, transA=t, transB=u), s, e, c),
    op.Slice(op.Gemm(x, y, z, alpha=a, beta=b, transA=t, transB=u), s, e, c),
    drift="rounding",
    phase="explore",
    peers="",
    example=[
        {
            "x": "f32[16,3]",
            "y": "f32[3,5]",
            "z": "f32[5]",
            "a": 1.0,
            "b": 1.0,
            "t": 0,
            "u": 0,
            "s": "i64[1] = 0",
            "e": "i64[1] = 2",
            "c": "i64[1] = 0",
        },
        {
            "x": "f32[3,16]",
            "y": "f32[5,3]",
            "z": "f32[16,5]",
            "a": 0.5,
            "b": 2.0,
            "t": 1,
            "u": 1,
            "s": "i64[1] = 0",
            "e": "i64[1] = 2",
            "c": "i64[1] = 0",
        },
    ],
    refuse={
        "x": "f32[8,3]",
        "y": "f32[3,16]",
        "z": "f32[16]",
        "a": 1.0,
        "b": 1.0,
        "t": 0,
        "u": 0,
        "s": "i64[1] = 0",
        "e": "i64[1] = 2",
        "c": "i64[1] = 1",
        "because": "columns",
    },
)
def slice_before_gemm(
    x: Value, y: Value, z: Value | None, a: float, b: float, t: int, u: int, s: Value, e: Value, c: Value
) -> Term:
    """Slice(Gemm(x, y, z), rows) = Gemm(Slice(x), y, Slice(z))."""
    whole = (x.shape[1 if t else 0], y.shape[0 if u else 1])
    cuts = small_cuts(whole, s, e, c, None)
    if 1 in cuts:
        raise Skip("columns are cut")
    bias = None if z is None else write_cuts(z, z.shape, sliced(z, cuts, whole))
    return op.Gemm(write_cuts(x, x.shape, {1 if t else 0: cuts[0]}), y, bias, alpha=a, beta=b, transA=t, transB=u)


@rule(
    op.Slice(op.Gather(x, i, axis=0), s, e, c),
    drift="none",
    phase="explore",
    peers="",
    example=[
        {"x": "f32[9,4] const", "i": "i64[2,8]", "s": "i64[1] = 7", "e": "i64[1] = 8", "c": "i64[1] = 1"},
        {"x": "f32[9,32]", "i": "i64[2]", "s": "i64[1] = 4", "e": "i64[1] = 8", "c": "i64[1] = 1"},
    ],
)
def slice_before_gather(x: Value, i: Value, s: Value, e: Value, c: Value) -> Term:
    """Slice(Gather(x, i)) = Gather(Slice(x), Slice(i))."""
    count = i.rank
    cuts = small_cuts((*i.shape, *x.shape[1:]), s, e, c, None)
    indices = {axis: cut for axis, cut in cuts.items() if axis < count}
    rest = {axis - count + 1: cut for axis, cut in cuts.items() if axis >= count}
    return op.Gather(write_cuts(x, x.shape, rest), write_cuts(i, i.shape, indices), axis=0)
