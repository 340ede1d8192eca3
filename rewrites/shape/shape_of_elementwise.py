"""The shape of a result is known before the result is computed."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .axes import ints, permutation
from .dimensions import broadcast, same_shape
from .elementwise import BINARY, UNARY

x, y, a, w, b, p, f, t = var("x y a w b p f t")


@rule(
    *(op.Shape(op(name)(x, attributes=a), start=f, end=t) for name in (*UNARY, "Softmax", "LogSoftmax")),
    op.Shape(op.LayerNormalization(x, w, attributes=a), start=f, end=t),
    op.Shape(op.LayerNormalization(x, w, b, attributes=a), start=f, end=t),
    op.Shape(op.RMSNormalization(x, w, attributes=a), start=f, end=t),
    op.Shape(op.Clip(x, w, b), start=f, end=t),
    op.Shape(op.BatchNormalization(x, w, b, y, p, attributes=a), start=f, end=t),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 PreShapeNodeElimination (Cast), onnxslim",
    example=[
        {"pattern": 0, "x": "f32[2,n]", "a": {}, "f": None, "t": None},
        {"pattern": len(UNARY), "x": "f32[2,n]", "a": {}, "f": 1, "t": None},
        {"pattern": len(UNARY) + 2, "x": "f32[2,3]", "w": "f32[3]", "a": {}, "f": 0, "t": -1},
        {"pattern": len(UNARY) + 3, "x": "f32[2,3]", "w": "f32[3]", "b": "f32[3]", "a": {}, "f": None, "t": None},
    ],
)
def shape_of_elementwise(x: Value, f: int | None, t: int | None) -> Term:
    """Shape(f(x)) = Shape(x) when f keeps the shape."""
    return op.Shape(x, start=f, end=t)


@rule(
    *(op.Shape(op(name)(x, y), start=f, end=t) for name in BINARY),
    drift="none",
    phase="canonicalise",
    peers="onnxslim",
    example={"pattern": 0, "x": "f32[2,n]", "y": "f32[1]", "f": None, "t": None},
    refuse={"pattern": 0, "x": "f32[n,1]", "y": "f32[1,n]", "f": None, "t": None, "because": "larger"},
)
def shape_of_binary(x: Value, y: Value, f: int | None, t: int | None) -> Term:
    """Shape(f(x, y)) = Shape(x) when y does not enlarge x."""
    both = broadcast(x.shape, y.shape)
    for operand in (x, y):
        if same_shape(operand.shape, both):
            return op.Shape(operand, start=f, end=t)
    raise Skip("the result is larger than either operand, or that is not known")


@rule(
    op.Shape(op.Transpose(x, perm=p)),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxsim",
    example={"x": "f32[2,n,3]", "p": (2, 0, 1)},
)
def shape_of_transpose(x: Value, p: tuple[int, ...] | None) -> Term:
    """Shape(Transpose(x, p)) = Gather(Shape(x), p)."""
    return op.Gather(op.Shape(x), ints(*permutation(p, x.rank)), axis=0)
