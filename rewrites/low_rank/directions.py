"""The directions in which a layer's outputs lie, found on the shorter side of its weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip

DAMP = 1e-4  # of the mean of the diagonal, added to it: directions that calibration did not see count a little
NOTHING = 1e-7  # of the largest singular value: below is rounding, as they are roots


def damped(moment: Array, ridge: float = 0.0) -> Floats:
    """A second moment, or a covariance, that no direction is missing from.

    Args:
        moment: [features, features].
        ridge: of the mean of the diagonal, added to it.

    Raises:
        Skip: calibration saw nothing to weigh errors by.
    """
    second = np.asarray(moment, np.float64)
    mean = float(np.mean(np.diagonal(second)))
    if not mean > 0:
        raise Skip("calibration saw nothing but zeros here")
    return second + (DAMP + ridge) * mean * np.eye(len(second))


def output_directions(weight: Array, moment: Array, ridge: float = 0.0) -> tuple[Floats, Floats]:
    """Σ descending and Vᵀ, rows in the same order, of SᵀW, with SSᵀ the damped moment; zeros for what is rounding.

    Args:
        weight: [features, outputs].
        moment: [features, features].
        ridge: of the mean of the diagonal, added to it.
    """
    second, outputs = damped(moment, ridge), weight.astype(np.float64)
    if weight.shape[0] >= weight.shape[1]:  # then the outputs' own second moment is the smaller one
        squares, vectors = np.linalg.eigh(outputs.T @ second @ outputs)
        return np.sqrt(np.maximum(squares[::-1], 0)), np.ascontiguousarray(vectors.T[::-1])
    product = np.linalg.cholesky(second).T @ outputs
    squares, vectors = np.linalg.eigh(product @ product.T)  # UΣ²Uᵀ, and then Vᵀ = Σ⁻¹Uᵀ(SᵀW): no square of the outputs
    values = np.sqrt(np.maximum(squares[::-1], 0))
    directions = vectors.T[::-1] @ product
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    nothing = lengths <= NOTHING * max(float(values[0]), 1e-300)
    return values, np.where(nothing, 0.0, directions / np.where(nothing, 1.0, lengths))


def kept_by_directions(weight: Array, moment: Floats, ridges: Sequence[float], other: Floats, rank: int) -> list[float]:
    """E‖x·W·VᵣVᵣᵀ‖² over the rows of another moment, V the `output_directions` with each of the ridges.

    What no ridge changes is multiplied out once, and nothing of the outputs' size squared where they are the wider
    side: W·V = WWᵀ·S·UΣ⁻¹.

    Args:
        weight: [features, outputs].
        moment: whose directions they are, [features, features].
        ridges: of the mean of its diagonal, added to it.
        other: the second moment of the rows that they are judged on.
        rank: how many directions are kept, the first ones.
    """
    outputs = weight.astype(np.float64)
    second = damped(moment)
    step = float(np.mean(np.diagonal(moment)))
    if weight.shape[0] >= weight.shape[1]:
        squared, seen, judged = outputs.T @ outputs, outputs.T @ second @ outputs, outputs.T @ other @ outputs
        found = [np.linalg.eigh(seen + ridge * step * squared)[1][:, ::-1][:, :rank] for ridge in ridges]
        return [float(np.sum(vectors * (judged @ vectors))) for vectors in found]
    squared, one = outputs @ outputs.T, np.eye(len(second))
    kept: list[float] = []
    for ridge in ridges:
        lower = np.linalg.cholesky(second + ridge * step * one)
        reached = squared @ lower
        squares, vectors = np.linalg.eigh(lower.T @ reached)
        values = np.sqrt(np.maximum(squares[::-1][:rank], 0))
        nothing = values <= NOTHING * max(float(values[0]), 1e-300)
        along = (reached @ vectors[:, ::-1][:, :rank]) / np.where(nothing, np.inf, values)
        kept.append(float(np.sum(along * (other @ along))))
    return kept
