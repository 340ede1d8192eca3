"""Dynamic int8: the activations' one scale is found when the program runs."""

from __future__ import annotations

from collections.abc import Iterator

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Expression, Term, op
from .symmetric import factor_int8


@method(
    kinds=("linear",), paper="Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, arXiv:1712.05877"
)
def dynamic_int8(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ s_x (Q(x) − z)·Q(W) diag(s_W) + b, with s_x, z from the range of all of x.

    One outlier anywhere in the batch widens the step for all of it.
    """
    yield Form("one scale for the tensor", dynamic_product(X, place.weight, place.bias, wide=place.wide))


def dynamic_product(x: Term, weight: Array, bias: Array | None, *, wide: bool) -> Expression:
    """x·W + b, the weight in int8 with a scale for each column; `wide`: as for `factor_int8`."""
    codes, scale = factor_int8(weight, wide=wide)
    return op("com.microsoft::DynamicQuantizeMatMul")(x, codes, scale, None, bias)
