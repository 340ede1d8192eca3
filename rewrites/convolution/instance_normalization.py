"""InstanceNormalization takes the product and sum per channel after it, and is recognised in its own arithmetic."""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import along, full, require_constant, require_factor

x, s, b, c, e, eps, axes = var("x s b c e eps axes")

NORMAL = {"x": "f32[2,3,4,5]", "s": "f32[3] const", "b": "f32[3] const", "e": 1e-5}
MOMENTS = {"x": "f32[2,3,4,5]", "axes": "i64[2] = 2 3", "eps": "f32[] = 1e-5"}

centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
deviation = op.Sqrt(op.Add(op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1), eps))
deviation_of_power = op.Sqrt(op.Add(op.ReduceMean(op.Pow(centred, 2), axes, keepdims=1), eps))


def _require_weights(s: Value, b: Value) -> None:
    require_constant(s, "the scale")
    require_constant(b, "the bias")


@rule(
    op.Mul(op.InstanceNormalization(x, s, b, epsilon=e), c),
    drift="rounding",
    example=[{**NORMAL, "c": "f32[3,1,1] const"}, {**NORMAL, "c": "f32[] = 2"}],
    refuse=[
        {**NORMAL, "c": "f32[5] const", "because": "another axis"},
        {**NORMAL, "s": "f32[3]", "c": "f32[3,1,1] const", "because": "computed"},
    ],
)
def scale_after_instance_normalization(x: Value, s: Value, b: Value, c: Value, e: float) -> Term:
    """InstanceNormalization(x, s, b)·c = InstanceNormalization(x, s·c, b·c) for a number c per channel."""
    _require_weights(s, b)
    require_factor(c)
    vector = along(c, 1, (None, s.static_shape[0], *(None,) * (x.rank - 2)))
    return op.InstanceNormalization(x, op.Mul(s, vector), op.Mul(b, vector), epsilon=e)


@rule(
    op.Add(op.InstanceNormalization(x, s, b, epsilon=e), c),
    drift="rounding",
    example=[{**NORMAL, "c": "f32[3,1,1] const"}, {**NORMAL, "c": "f32[1] = 2"}],
    refuse={**NORMAL, "c": "f32[5] const", "because": "another axis"},
)
def shift_after_instance_normalization(x: Value, s: Value, b: Value, c: Value, e: float) -> Term:
    """InstanceNormalization(x, s, b) + c = InstanceNormalization(x, s, b + c) for a number c per channel."""
    _require_weights(s, b)
    vector = along(c, 1, (None, s.static_shape[0], *(None,) * (x.rank - 2)))
    return op.InstanceNormalization(x, s, op.Add(b, vector), epsilon=e)


@rule(
    op.Div(centred, deviation),
    op.Mul(centred, op.Reciprocal(deviation)),
    op.Div(centred, deviation_of_power),
    op.Mul(centred, op.Reciprocal(deviation_of_power)),
    drift="rounding",
    example=[MOMENTS, {**MOMENTS, "x": "f32[N,3,L]", "axes": "i64[1] = -1"}],
    refuse=[
        {**MOMENTS, "axes": "i64[2] = 1 2", "because": "spatial"},
        {**MOMENTS, "x": "f64[2,3,4,5]", "eps": "f64[] = 1e-5", "because": "single precision"},
    ],
)
def instance_normalization_of_moments(x: Value, axes: Value, eps: Value) -> Term:
    """(x - E[x]) / √(E[(x - E[x])²] + ε) = InstanceNormalization(x, 1, 0), with means over the spatial axes."""
    if x.dtype != 1:
        raise Skip("only single precision has a kernel")
    channels = x.shape[1] if x.rank > 2 else None
    if sorted(int(i) % x.rank for i in axes.array.reshape(-1)) != list(range(2, x.rank)) or x.rank < 3:
        raise Skip("the means are not over the spatial axes")
    if not isinstance(channels, int) or eps.size != 1:
        raise Skip("the number of channels is not known, or there is more than one ε")
    one, zero = full(1.0, (channels,), x), full(0.0, (channels,), x)
    return op.InstanceNormalization(x, one, zero, epsilon=eps.scalar)
