"""Low rank in the directions that the outputs use on calibration data: LoRD, the whitened SVD."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from .directions import NOTHING, output_directions
from .factors import break_even, ranks_below, two_int8_products, two_products
from .moments import moments_of


@method(
    kinds=("linear",),
    paper="Kaushal et al., LoRD, 2023, arXiv:2309.14021; Wang et al., SVD-LLM, ICLR 2025, arXiv:2403.07378 (whitening)",
)
def whitened_svd(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ (x·W·Vᵣ)·Vᵣᵀ + b, with SᵀW = UΣVᵀ and SSᵀ = E[xxᵀ]: the rank r nearest to x·W (Eckart & Young).

    V are also the eigenvectors of the outputs' covariance WᵀE[xxᵀ]W, which is how LoRD states it.
    """
    ranks = ranks_below(break_even(place.shape))
    seen = moments_of(inputs.arrays)
    ridge = seen.ridge(place.weight, ranks[len(ranks) // 2])
    values, directions = output_directions(place.weight, seen.second, ridge)
    for rank in ranks:
        left, right = balanced(place.weight, values[:rank], directions[:rank])
        yield Form(f"rank {rank}", two_products(left, right, place.bias))
        yield Form(f"rank {rank}, int8", two_int8_products(left, right, place.bias, wide=place.wide))


def balanced(weight: Array, values: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """W·V/√Σ and √Σ·Vᵀ: in fp32 any split will do, in int8 this one shares the error between the factors."""
    scale = np.sqrt(np.where(values > values[0] * NOTHING, values, 1.0))
    return (weight.astype(np.float64) @ directions.T) / scale, scale[:, None] * directions
