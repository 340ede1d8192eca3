"""WeLore: low rank where a weight's own singular values have a heavy tail; needs no data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .factors import break_even, two_products, whole

THRESHOLDS = (0.175, 0.26)  # the authors' for 50 and 70 % fewer ranks in Llama-2: what pays in a square weight


@method(kinds=("linear",), paper="Jaiswal et al., From GaLore to WeLore, 2024, arXiv:2407.11239")
def welore(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ (x·Uᵣ√Σᵣ)·√ΣᵣVᵣᵀ + b, with r the number of σ for which (σ − σ_min)/(σ_max − σ_min) ≥ k.

    One k for the whole model is what distributes ranks over its weights.
    """
    most = break_even(place.shape)
    if not np.all(np.isfinite(place.weight)):
        raise Skip("the weight holds values that are not finite")
    squared = shorter_side(place.weight)
    squares = np.linalg.eigvalsh(squared)  # most weights have no heavy tail, and need no vectors
    values = np.sqrt(np.maximum(squares[::-1], 0))
    found = [whole(heavy_rank(values, threshold)) for threshold in THRESHOLDS]
    ranks = [rank for rank in dict.fromkeys(found) if 0 < rank < most]
    if not ranks:
        raise Skip(f"its singular values have no heavy tail: ranks {found}, two factors save below {most:.0f}")
    u, v = singular_vectors(place.weight, squared, max(ranks))
    for rank in ranks:
        scale = np.sqrt(values[:rank])
        yield Form(f"rank {rank}", two_products(u[:, :rank] * scale, scale[:, None] * v[:rank], place.bias))


def shorter_side(weight: Array) -> Floats:
    """WWᵀ or WᵀW, whichever is smaller: its eigenvalues are σ², its eigenvectors the singular vectors of that side."""
    matrix = weight.astype(np.float64)
    return matrix @ matrix.T if weight.shape[0] <= weight.shape[1] else matrix.T @ matrix


def singular_vectors(weight: Array, squared: Floats, rank: int) -> tuple[Floats, Floats]:
    """The first columns of U and rows of Vᵀ, from the `shorter_side`: UᵀW = ΣVᵀ, WV = UΣ.

    A σ that counts is not small beside the largest: nothing is lost by its square.
    """
    matrix = weight.astype(np.float64)
    near = np.linalg.eigh(squared)[1][:, ::-1][:, :rank]
    if weight.shape[0] <= weight.shape[1]:
        far = near.T @ matrix
        return near, far / np.linalg.norm(far, axis=1, keepdims=True)
    far = matrix @ near
    return far / np.linalg.norm(far, axis=0), near.T


def heavy_rank(values: Array, threshold: float) -> int:
    """How many singular values stay; all of them where they do not differ."""
    spread = values[0] - values[-1]
    if not spread > 0:
        return len(values)
    return int(np.sum((values - values[-1]) / spread >= threshold))
