"""Average pooling over the whole image is a reduction over its dimensions, and the other way round: prices decide.

Maximum pooling is not: ONNX Runtime's MaxPool passes over NaN, ReduceMax does not.
"""

from __future__ import annotations

from ...compiler.rule import Term, Value, op, rule, var
from .axes import ints

x, axes, a = var("x axes a")


@rule(
    op.GlobalAveragePool(x),
    drift="rounding",
    phase="canonicalise",
    peers="",
    example=[{"x": "f32[2,3,4,5]"}, {"x": "f32[2,3,n]"}],
)
def global_average_pool_as_mean(x: Value) -> Term:
    """GlobalAveragePool(x) = ReduceMean(x, all dimensions behind the channels)."""
    return op.ReduceMean(x, ints(*range(2, x.rank)), keepdims=1)
