"""Low rank in the directions that the outputs use on calibration data: LoRD, the whitened SVD."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Skip
from .factors import break_even, two_int8_products, two_products, whole

FRACTIONS = (0.75, 0.5, 0.25)  # of the break-even rank
DAMP = 1e-4  # of the mean of E[xxᵀ]'s diagonal, added to it: directions that calibration did not see count a little


@method(
    kinds=("linear",),
    paper="Kaushal et al., LoRD, 2023, arXiv:2309.14021; Wang et al., SVD-LLM, ICLR 2025, arXiv:2403.07378 (whitening)",
)
def whitened_svd(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ (x·W·Vᵣ)·Vᵣᵀ + b, with SᵀW = UΣVᵀ and SSᵀ = E[xxᵀ]: the rank r nearest to x·W (Eckart & Young).

    V are also the eigenvectors of the outputs' covariance WᵀE[xxᵀ]W, which is how LoRD states it.
    """
    most = break_even(place.shape)
    ranks = [rank for rank in dict.fromkeys(whole(f * most) for f in FRACTIONS) if rank]
    if not ranks:
        raise Skip(f"two factors hold no less than the weight from rank {most:.0f} on, too few for any")
    values, directions = output_directions(place.weight, inputs.second_moment)
    for rank in ranks:
        left, right = balanced(place.weight, values[:rank], directions[:rank])
        yield Form(f"rank {rank}", two_products(place, left, right))
        yield Form(f"rank {rank}, int8", two_int8_products(place, left, right))


def output_directions(weight: Array, moment: Array) -> tuple[Array, Array]:
    """Σ descending and Vᵀ, rows in the same order, of the whitened weight; float64.

    Raises:
        Skip: calibration saw nothing to weigh errors by.
    """
    second = np.asarray(moment, np.float64)
    if not np.all(np.isfinite(second)):
        raise Skip("calibration saw values that are not finite")
    mean = float(np.mean(np.diagonal(second)))
    if not mean > 0:
        raise Skip("calibration saw nothing but zeros here")
    root = np.linalg.cholesky(second + DAMP * mean * np.eye(len(second)))
    _, values, directions = np.linalg.svd(root.T @ weight.astype(np.float64), full_matrices=False)
    return values, directions


def balanced(weight: Array, values: Array, directions: Array) -> tuple[Array, Array]:
    """W·V/√Σ and √Σ·Vᵀ: in fp32 any split will do, in int8 this one shares the error between the factors."""
    found, rows = np.asarray(values, np.float64), np.asarray(directions, np.float64)
    scale = np.sqrt(np.where(found > found[0] * 1e-12, found, 1.0))
    return (weight.astype(np.float64) @ rows.T) / scale, scale[:, None] * rows
