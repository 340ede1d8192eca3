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
from .moments import Reading
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
    damp = _damp(reading, stay, gone, lost)
    mean = reading.whole.mean(centred=reading.centred)
    told = _told(reading.whole.covariance(mean), stay, gone, damp)
    changed = found.weight.copy()
    changed[stay] += told @ lost
    result = {(found.part.node, 1): found.stored(changed)}
    if found.bias is not None:
        result[found.bias] = found.shifted((mean[gone] - mean[stay] @ told) @ lost)
    return result


def _damp(reading: Reading, stay: Indices, gone: Indices, lost: Floats) -> float:
    """λ with which the first half of the samples tells most of what the second half's outputs lack."""
    first, second = reading.halves
    mean = first.mean(centred=reading.centred)
    here, there = first.covariance(mean), second.covariance(mean)
    cross, kept, own = there[np.ix_(stay, gone)], there[np.ix_(stay, stay)], there[np.ix_(gone, gone)]

    def untold(damp: float) -> float:
        told = _told(here, stay, gone, damp)
        left = own - told.T @ cross - cross.T @ told + told.T @ kept @ told
        return float(np.sum(lost * (left @ lost)))

    return min(DAMPS, key=untold)


def _told(covariance: Floats, stay: Indices, gone: Indices, damp: float) -> Floats:
    """A = (C_kk + λ)⁻¹·C_kg."""
    kept = covariance[np.ix_(stay, stay)]
    level = max(float(np.mean(np.diagonal(kept))), 1e-12)
    found = np.linalg.solve(kept + damp * level * np.eye(len(kept)), covariance[np.ix_(stay, gone)])
    return np.asarray(found, np.float64)
