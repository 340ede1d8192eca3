"""What reads units is fitted once more, to what it was given before anything was pruned, from what it is given now.

W'' = argmin ‖x·W − x̂·W''‖² + λ‖W'' − W'‖², x̂ from the pruned program: errors that layers before have made are taken
back where they can be (He et al., Channel Pruning, ICCV 2017, arXiv:1707.06168, who go layer by layer; here all layers
take one step together). λ, or no step at all, is what lowers the error on samples that were not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.structure import Observed
from ...compiler.facts import Array, Floats
from .layout import Indices
from .moments import MOST_ROWS, Gathered, Reading
from .removal import Kept, Operand

MOST_SAMPLES = 128  # that both programs run on, for every variant
DAMPS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass
class _Pairs:
    """Sums over rows of x̂ (what stays, and a one) and of x·W."""

    width: int
    outputs: int
    inner: Floats = field(init=False)
    cross: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.inner, self.cross = np.zeros((self.width, self.width)), np.zeros((self.width, self.outputs))

    def add(self, now: Floats, before: Floats) -> None:
        """More rows."""
        self.inner += now.T @ now
        self.cross += now.T @ before


def compensated(
    observed: Observed, pruned: ir.Model, known: Sequence[Reading], kept: Kept, contents: Mapping[Operand, Array]
) -> dict[Operand, Array]:
    """New contents of weights and biases, of their old shapes.

    Args:
        observed: the program before.
        pruned: made with these contents.
        known: what reads the groups.
        kept: the units that stay.
        contents: what `refitted` made.
    """
    units = {id(g): u for g, u in kept}
    read = [(r, r.reader.features(units[id(r.group)])) for r in known if (r.reader.part.node, 1) in contents]
    pairs = [_pairs(r, len(stay)) for r, stay in read]
    names = sorted({r.reader.x.name or "" for r, _ in read})
    count = min(len(observed.samples), MOST_SAMPLES)
    gathered = [tuple(Gathered(half.add) for half in halves) for halves in pairs]
    both = zip(observed.values(names), observed.values(names, pruned), strict=True) if names else ()
    for number, (before, now) in enumerate(islice(both, count)):
        for (reading, _), halves in zip(read, gathered, strict=True):
            name, found = reading.reader.x.name or "", reading.reader
            most = max(MOST_ROWS // count, 32)
            rows = found.rows(now[name], most)
            ones = np.ones((len(rows), int(reading.centred)))
            halves[number % 2].take(np.hstack([rows, ones]), found.rows(before[name], most) @ found.weight)
    for half in chain.from_iterable(gathered):
        half.flush()
    result = dict(contents)
    for (reading, stay), halves in zip(read, pairs, strict=True):
        result |= _step(reading, halves, stay, contents)
    return result


def _pairs(reading: Reading, width: int) -> tuple[_Pairs, _Pairs]:
    outputs, ones = reading.reader.weight.shape[1], int(reading.centred)
    return _Pairs(width + ones, outputs), _Pairs(width + ones, outputs)


def _step(
    reading: Reading, halves: Sequence[_Pairs], stay: Indices, contents: Mapping[Operand, Array]
) -> dict[Operand, Array]:
    found = reading.reader
    full = found.loaded(contents[found.part.node, 1])
    start = full[stay]
    if found.bias is not None:
        start = np.vstack([start, found.shift_of(contents[found.bias])])
    first, second = halves
    trials = [start, *(_solved(first, start, d) for d in DAMPS)]
    best = int(np.argmin([_error(second, w) for w in trials]))
    if best == 0:
        return {}
    both = _Pairs(first.width, first.outputs)
    both.inner, both.cross = first.inner + second.inner, first.cross + second.cross
    solved = _solved(both, start, DAMPS[best - 1])
    full = full.copy()
    full[stay] = solved[: len(stay)]
    result = {(found.part.node, 1): found.stored(full)}
    if found.bias is not None:
        result[found.bias] = found.shifted(solved[-1])
    return result


def _solved(pairs: _Pairs, start: Floats, damp: float) -> Floats:
    level = damp * float(np.mean(np.diagonal(pairs.inner)))
    system = pairs.inner + max(level, 1e-12) * np.eye(pairs.width)
    return start + np.asarray(np.linalg.solve(system, pairs.cross - pairs.inner @ start), np.float64)


def _error(pairs: _Pairs, weight: Floats) -> float:
    """‖x·W − x̂·W''‖² but for what no weight changes."""
    return float(np.sum(weight * (pairs.inner @ weight)) - 2 * np.sum(weight * pairs.cross))
