"""The weights that read pruned units are fitted again, so that those that stay stand in for those that go.

W' = argmin ‖(x − x̄)·W − (x_kept − x̄_kept)·W'‖² + λ‖W' − W_kept‖², and the bias takes up x̄·W − x̄_kept·W' where there is
one (He et al., Channel Pruning, ICCV 2017, arXiv:1707.06168; Luo et al., ThiNet, ICCV 2017, arXiv:1707.06342). With
C = E[(x − x̄)(x − x̄)ᵀ] the solution is W_kept + A·W_gone, A = (C_kk + λ)⁻¹·C_kg: what of the units that go can be told
from those that stay. λ is the one that tells most on samples that were not fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.facts import Array, Floats
from .layout import Indices
from .moments import Moments, Reading
from .removal import Kept, Operand

DAMPS = (1e-4, 1e-2, 1e-1, 1.0)  # λ, of the mean of C_kk's diagonal


def refitted(readings: Sequence[Reading], kept: Kept) -> dict[Operand, Array]:
    """New contents of weights and biases, of their old shapes, for the groups that lose units.

    Args:
        readings: what reads the groups.
        kept: the units that stay.
    """
    result: dict[Operand, Array] = {}
    units = {id(group): u for group, u in kept}
    for reading in readings:
        if id(reading.group) in units and all(h.count for h in reading.halves):
            result |= _fitted(reading, units[id(reading.group)])
    return result


def _fitted(reading: Reading, units: Indices) -> dict[Operand, Array]:
    found = reading.reader
    stay = found.features(units)
    gone = np.setdiff1d(np.arange(len(found.weight), dtype=np.int64), stay)
    if not gone.size:
        return {}
    lost = found.weight[gone]
    damp = min(DAMPS, key=lambda d: _untold(reading, stay, gone, lost, d))
    told, mean = predictable(reading.whole, stay, gone, damp, centred=reading.centred)
    changed = found.weight.copy()
    changed[stay] += told @ lost
    result = {(found.part.node, 1): found.stored(changed)}
    if found.bias is not None:
        result[found.bias] = found.shifted((mean[gone] - mean[stay] @ told) @ lost)
    return result


def predictable(moments: Moments, stay: Indices, gone: Indices, damp: float, *, centred: bool) -> tuple[Floats, Floats]:
    """A = (C_kk + λ)⁻¹·C_kg, and the mean of all features."""
    mean = moments.mean(centred=centred)
    covariance = moments.covariance(mean)
    kept = covariance[np.ix_(stay, stay)]
    level = max(float(np.mean(np.diagonal(kept))), 1e-12)
    found = np.linalg.solve(kept + damp * level * np.eye(len(kept)), covariance[np.ix_(stay, gone)])
    return np.asarray(found, np.float64), mean


def _untold(reading: Reading, stay: Indices, gone: Indices, lost: Floats, damp: float) -> float:
    """What the second half's outputs lack when the first half says how to stand in."""
    told, mean = predictable(reading.halves[0], stay, gone, damp, centred=reading.centred)
    covariance = reading.halves[1].covariance(mean)
    cross = covariance[np.ix_(stay, gone)]
    left = covariance[np.ix_(gone, gone)] - told.T @ cross - cross.T @ told
    left += told.T @ covariance[np.ix_(stay, stay)] @ told
    return float(np.sum(lost * (left @ lost)))
