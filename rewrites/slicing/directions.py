"""Principal directions of what a residual stream holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.structure import Observed
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .residual_stream import Stream

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # of the stream's directions, left out
MULTIPLE = 8  # of the directions kept: what vector units take at once


def kept(width: int, fraction: float) -> int:
    """How many directions stay, rounded to a multiple that kernels like."""
    return round(width * (1 - fraction) / MULTIPLE) * MULTIPLE


def cuts(streams: Sequence[Stream]) -> Iterator[dict[int, int]]:
    """How many directions stay of each width, from the least cut on; nothing twice."""
    done: list[dict[int, int]] = [{s.width: s.width for s in streams}]
    for fraction in FRACTIONS:
        found = {s.width: min(max(kept(s.width, fraction), MULTIPLE), s.width) for s in streams}
        if found not in done:
            done.append(found)
            yield found


def described(cut: Mapping[int, int]) -> str:
    """What stays, in a few words."""
    return ", ".join(f"{100 * (1 - k / w):.0f} %: {k} of {w} directions" for w, k in cut.items())


def moments_at_points(observed: Observed, model: ir.Model, streams: Sequence[Stream]) -> dict[str, Floats]:
    """Σ xᵀx at each point where a stream is read, by name: [features, features], float64.

    Raises:
        Skip: calibration saw nothing there, or values that are not finite.
    """
    names = [point.name or "" for stream in streams for point in stream.points]
    found: dict[str, Floats] = {}
    for values in observed.values(names, model):
        for name, array in values.items():
            moment = second_moment([array])
            found[name] = moment + found[name] if name in found else moment
    for name in names:
        require_spread(found.get(name))
    return found


def second_moment(arrays: Iterable[Array]) -> Floats:
    """Σ xᵀx over the rows of all arrays: [features, features], float64."""
    rows = [array.reshape(-1, array.shape[-1]).astype(np.float64) for array in arrays]
    return np.sum([r.T @ r for r in rows], axis=0)


def require_spread(moment: Floats | None) -> None:
    """Raises Skip where calibration saw nothing on the stream, or values that are not finite."""
    if moment is None or not np.all(np.isfinite(moment)):
        raise Skip("calibration saw values on the residual stream that are not finite")
    if not np.trace(moment) > 0:
        raise Skip("calibration saw nothing but zeros on the residual stream")


def principal(moment: Floats) -> Floats:
    """Orthonormal eigenvectors as columns, those of the largest eigenvalues first; float64 (float32 costs accuracy)."""
    _, vectors = np.linalg.eigh((moment + moment.T) / 2)
    return np.ascontiguousarray(vectors[:, ::-1])
