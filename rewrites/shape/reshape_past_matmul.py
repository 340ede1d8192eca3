"""Reshapes move behind matrix products whose contracted dimension they keep."""

from __future__ import annotations

from ...compiler.facts import Shape
from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from .dimensions import align, broadcast, same_shape, same_shape_of_same_size
from .reshaping import reshape_expression, reshaped

x, y, s, t, w = var("x y s t w")


@rule(
    op.MatMul(op.Reshape(x, s), w),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[6,4]", "s": "i64[3] = 2 3 4", "w": "f32[4,5]"},
        {"x": "f32[2,3,4]", "s": "i64[3] = 1 6 4", "w": "f32[4,5] const"},
    ],
    refuse=[
        {"x": "f32[2,12]", "s": "i64[2] = 6 4", "w": "f32[4,5]", "because": "not keep"},
        {"x": "f32[6,4]", "s": "i64[3] = 2 3 4", "w": "f32[2,4,5]", "because": "not a matrix"},
        {"x": "f32[4]", "s": "i64[2] = 1 4", "w": "f32[4,5]", "because": "a vector"},
        {"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "w": "f32[4,5]", "because": "one matrix"},
    ],
)
def reshape_past_matmul(x: Value, s: Value, w: Value, root: Value) -> Term:
    """MatMul(Reshape(x, s), w) = Reshape(MatMul(x, w), s') when w is a matrix and the last dimension is kept."""
    target = reshaped(x, s)
    if x.rank > len(target):
        raise Skip("the Reshape makes one matrix of several")
    return reshape_expression(_product(x, target, w), (*x.shape[:-1], w.shape[-1]), root.shape)


@rule(
    op.Reshape(op.MatMul(op.Reshape(x, s), w), t),
    drift="rounding",
    phase="canonicalise",
    peers="onnxscript broadcast_to_matmul",
    example=[
        {"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "w": "f32[4,5] const", "t": "i64[3] = 2 3 5"},
        {"x": "f32[n,3,4]", "s": "i64[2] = -1 4", "w": "f32[4,5]", "t": "i64[3] = -1 3 5"},
    ],
    refuse={"x": "f32[2,3,4]", "s": "i64[2] = 6 4", "w": "f32[4,5]", "t": "i64[2] = 5 6", "because": "back"},
)
def reshape_around_matmul(x: Value, s: Value, w: Value, root: Value) -> Term:
    """Reshape(MatMul(Reshape(x, s), w), back) = MatMul(x, w) when w is a matrix and the last dimension is kept."""
    product = _product(x, reshaped(x, s), w)
    if not same_shape_of_same_size((*x.shape[:-1], w.shape[-1]), root.shape):
        raise Skip("the result is not reshaped back")
    return product


def _product(x: Value, target: Shape, w: Value) -> Expression:
    if w.rank != 2:
        raise Skip("the second operand is not a matrix")
    if x.rank < 2:
        raise Skip("the operand is a vector")
    _keeps(x.shape, target, 1)
    return op.MatMul(x, w)


@rule(
    op.MatMul(w, op.Reshape(x, s)),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example={"x": "f32[2,3,4,5]", "s": "i64[3] = 6 4 5", "w": "f32[7,4] const"},
    refuse=[
        {"x": "f32[2,3,4,5]", "s": "i64[3] = 2 12 5", "w": "f32[7,12]", "because": "not keep"},
        {"x": "f32[2,3,4,5]", "s": "i64[3] = 6 4 5", "w": "f32[6,7,4]", "because": "not a matrix"},
    ],
)
def reshape_past_matmul_right(x: Value, s: Value, w: Value, root: Value) -> Term:
    """MatMul(w, Reshape(x, s)) = Reshape(MatMul(w, x), s') when w is a matrix and the last two dimensions are kept."""
    if w.rank != 2:
        raise Skip("the first operand is not a matrix")
    _keeps(x.shape, reshaped(x, s), 2)
    return reshape_expression(op.MatMul(w, x), (*x.shape[:-2], w.shape[0], x.shape[-1]), root.shape)


@rule(
    op.MatMul(op.Reshape(x, s), op.Reshape(y, t)),
    drift="rounding",
    phase="canonicalise",
    peers="onnxscript broadcast_to_matmul",
    example=[
        {"x": "f32[2,3,4,5]", "y": "f32[2,3,5,6]", "s": "i64[3] = 6 4 5", "t": "i64[3] = -1 5 6"},
        {"x": "f32[6,4,5]", "y": "f32[6,5,6]", "s": "i64[4] = 2 3 4 5", "t": "i64[4] = 2 3 5 6"},
        {"x": "f32[1,2,4,5]", "y": "f32[2,5,6]", "s": "i64[3] = 2 4 5", "t": "i64[4] = 1 2 5 6"},
    ],
    refuse=[
        {"x": "f32[2,3,4,5]", "y": "f32[6,5,6]", "s": "i64[3] = 6 4 5", "t": "i64[3] = 6 5 6", "because": "batch"},
        {"x": "f32[2,20]", "y": "f32[2,5,6]", "s": "i64[3] = 2 4 5", "t": "i64[3] = 2 5 6", "because": "not keep"},
    ],
)
def reshape_past_matmul_of_both(x: Value, y: Value, s: Value, t: Value, root: Value) -> Term:
    """MatMul(Reshape(x, s), Reshape(y, t)) = Reshape(MatMul(x, y), s') when only batch dimensions are regrouped."""
    left, right = reshaped(x, s), reshaped(y, t)
    _keeps(x.shape, left, 2)
    _keeps(y.shape, right, 2)
    if not same_shape(_solid(x.shape[:-2]), _solid(y.shape[:-2])) or not same_shape(
        _solid(left[:-2]), _solid(right[:-2])
    ):
        raise Skip("the operands' batch dimensions are regrouped differently")
    batch = broadcast(x.shape[:-2], y.shape[:-2])
    if not same_shape(_solid(batch), _solid(x.shape[:-2])):
        raise Skip("the operands' batch dimensions do not lie alike")
    return reshape_expression(op.MatMul(x, y), (*batch, x.shape[-2], y.shape[-1]), root.shape)


def _solid(shape: Shape) -> Shape:
    return tuple(d for d in shape if d != 1)


def _keeps(source: Shape, target: Shape, count: int) -> None:
    """Raise Skip unless the last dimensions go through a Reshape as they are."""
    if min(len(source), len(target)) < count:
        raise Skip("the Reshape does not keep the matrix dimensions")
    groups = align(source, target)
    for back in range(1, count + 1):
        wanted = (range(len(source) - back, len(source) - back + 1), range(len(target) - back, len(target) - back + 1))
        if wanted not in groups:
            raise Skip("the Reshape does not keep the matrix dimensions")
