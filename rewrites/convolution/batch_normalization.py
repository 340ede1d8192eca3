"""BatchNormalization with fixed statistics is a product and a sum per channel, and the other way round.

As product and sum it goes into the convolution or matrix product before it, or after it; where neither takes it, one
BatchNormalization runs faster than a product and a sum (1.8x in ONNX Runtime on the CPU), and keeps its blocked layout.
"""

from __future__ import annotations

from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import along, full, ints, require_constant, require_factor, require_float, require_same_type

x, scale, bias, mean, variance, e, m, p, q, c, d = var("x scale bias mean variance e m p q c d")

STATISTICS = {
    "scale": "f32[3] const",
    "bias": "f32[3] const",
    "mean": "f32[3] const",
    "variance": "f32[3] = 0.5 1 2",
    "e": 1e-5,
    "m": 0.9,
}


def factor_and_summand(
    x: Value, scale: Value, bias: Value, mean: Value, variance: Value, e: float
) -> tuple[Term, Term]:
    """The numbers per channel, as vectors.

    Raises:
        Skip: a statistic is computed or of another dtype.
    """
    require_float(x)
    require_same_type(x, scale, bias, mean, variance)
    for statistic in (scale, bias, mean, variance):
        require_constant(statistic, "a statistic")
    factor = op.Div(scale, op.Sqrt(op.Add(variance, full(e, (1,), x))))
    return factor, op.Sub(bias, op.Mul(mean, factor))


def on_axis(vector: Term, axis: int, rank: int) -> Term:
    """A vector shaped to vary along one axis of its partner."""
    after = rank - 1 - axis
    return op.Reshape(vector, ints(-1, *(1,) * after)) if after else vector


def require_statistics(e: float) -> None:
    """Refuse what `affine_as_batch_normalization` wrote: trained statistics always have an epsilon.

    Raises:
        Skip: epsilon is zero.
    """
    if e == 0:
        raise Skip("it stands for a product and a sum already")


@rule(
    op.BatchNormalization(x, scale, bias, mean, variance, epsilon=e, momentum=m),
    drift="rounding",
    peers="ORT L1, onnxslim, onnxsim, onnxoptimizer, onnxscript (after Conv, ConvTranspose, Gemm)",
    example=[
        {"x": "f32[2,3,4,4]", **STATISTICS},
        {"x": "f32[N,3]", **STATISTICS},
        {"x": "f32[2,3,4]", **STATISTICS, "e": 0.001},
        {
            "x": "f16[2,2,3]",
            "scale": "f16[2] const",
            "bias": "f16[2] const",
            "mean": "f16[2] const",
            "variance": "f16[2] = 1 2",
            "e": 1e-3,
            "m": 0.9,
        },
    ],
    refuse=[
        {"x": "f32[2,3,4,4]", **STATISTICS, "e": 0.0, "because": "already"},
        {"x": "f32[2,3,4,4]", **STATISTICS, "scale": "f32[3]", "because": "computed"},
    ],
)
def batch_normalization_as_affine(x: Value, scale: Value, bias: Value, mean: Value, variance: Value, e: float) -> Term:
    """BatchNormalization(x) = x·s + (bias - mean·s) with s = scale/√(variance + ε)."""
    require_statistics(e)
    factor, summand = factor_and_summand(x, scale, bias, mean, variance, e)
    rank = x.rank
    if rank < 2:
        raise Skip("the input has no channel axis")
    return op.Add(op.Mul(x, on_axis(factor, 1, rank)), on_axis(summand, 1, rank))


@rule(
    op.Transpose(
        op.BatchNormalization(op.Transpose(x, perm=p), scale, bias, mean, variance, epsilon=e, momentum=m), perm=q
    ),
    drift="rounding",
    example=[
        {"x": "f32[2,5,3]", "p": (0, 2, 1), "q": (0, 2, 1), **STATISTICS},
        {"x": "f32[2,4,5,3]", "p": (0, 3, 1, 2), "q": (0, 2, 3, 1), **STATISTICS},
        {"x": "f32[3,5]", "p": None, "q": None, **STATISTICS},
    ],
    refuse={"x": "f32[4,5,3]", "p": (0, 2, 1), "q": (2, 0, 1), **STATISTICS, "because": "another order"},
)
def batch_normalization_of_last_axis(
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    e: float,
    p: tuple[int, ...] | None,
    q: tuple[int, ...] | None,
) -> Term:
    """Transpose(BatchNormalization(Transpose(x, p)), p⁻¹) = x·s + t along the axis that p brings to the channels."""
    rank = x.rank
    back = tuple(reversed(range(rank)))
    first, second = p or back, q or back
    if tuple(first[i] for i in second) != tuple(range(rank)):
        raise Skip("the result has another order of axes")
    factor, summand = factor_and_summand(x, scale, bias, mean, variance, e)
    return op.Add(op.Mul(x, on_axis(factor, first[1], rank)), on_axis(summand, first[1], rank))


@rule(
    op.Add(op.Mul(x, c), d),
    drift="rounding",
    example=[
        {"x": "f32[2,3,4,4]", "c": "f32[3,1,1] const", "d": "f32[1,3,1,1] const"},
        {"x": "f32[2,3,4]", "c": "f32[3,1] const", "d": "f32[] = 2"},
        {"x": "f32[N,3,H,W]", "c": "f32[3,1,1] const", "d": "f32[3,1,1] const"},
    ],
    refuse=[
        {"x": "f32[2,3,4]", "c": "f32[4] const", "d": "f32[3,1] const", "because": "another axis"},
        {"x": "f32[2,3]", "c": "f32[3] const", "d": "f32[3] const", "because": "last axis"},
        {"x": "f32[2,1,4]", "c": "f32[3,1] const", "d": "f32[3,1] const", "because": "larger"},
        {"x": "f32[2,3,4]", "c": "f32[] = 2", "d": "f32[] = 1", "because": "one number"},
        {"x": "f32[2,3,4]", "c": "f32[3,1] = inf", "d": "f32[3,1] const", "because": "not finite"},
        {"x": "f16[2,3,4]", "c": "f16[3,1] const", "d": "f16[3,1] const", "because": "single precision"},
    ],
)
def affine_as_batch_normalization(x: Value, c: Value, d: Value) -> Term:
    """x·c + d = BatchNormalization(x, scale c, bias d, mean 0, variance 1, ε 0) for numbers c, d per channel."""
    if x.dtype != 1:
        raise Skip("only single precision has a fast kernel")
    if x.rank < 3:
        raise Skip("the channels are the last axis")
    require_factor(c)
    if c.size == 1 and d.size == 1:
        raise Skip("both constants are one number")
    factor, summand = along(c, 1, x.shape), along(d, 1, x.shape)
    channels = x.shape[1]
    assert isinstance(channels, int)  # `along` has asked
    zero, one = full(0.0, (channels,), x), full(1.0, (channels,), x)
    return op.BatchNormalization(x, factor, summand, zero, one, epsilon=0.0)
