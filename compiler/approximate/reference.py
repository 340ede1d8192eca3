"""What every measurement is paired with: the original's outputs on the owner's samples, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..mapped import is_mapped
from ..scratch import put_away
from .calibration import Sample
from .stack import Program, run_together

Group = Sequence[Sample]

MOST_KEPT = 1 << 28  # bytes of outputs in memory; what is beyond them is computed again


class Reference:
    """The original.

    Args:
        program: as a target runs it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        # The samples are kept with their outputs: another object must not get the identity of one that is gone.
        self._kept: dict[tuple[int, ...], tuple[Group, list[list[Any]]]] = {}
        self._bytes = 0

    def outputs(self, groups: Sequence[Group]) -> Iterator[list[list[Any]]]:
        """For each group, each sample's outputs from one run of all; they are not to be written to."""
        missing = [group for group in groups if _key(group) not in self._kept]
        fresh = run_together(self.program, missing) if missing else iter(())
        for group in groups:
            found = self._kept.get(_key(group))
            yield self._keep(group, next(fresh)) if found is None else found[1]
        next(fresh, None)  # lets go of what it ran with

    def _keep(self, group: Group, outputs: list[list[Any]]) -> list[list[Any]]:
        kept = [[put_away(o) if isinstance(o, np.ndarray) else o for o in each] for each in outputs]
        arrays = [o for each in kept for o in each if isinstance(o, np.ndarray)]
        size = sum(a.nbytes for a in arrays if not is_mapped(a))
        if self._bytes + size <= MOST_KEPT and len(arrays) == sum(map(len, kept)):
            self._kept[_key(group)] = group, kept
            self._bytes += size
        return kept


def _key(group: Group) -> tuple[int, ...]:
    return tuple(map(id, group))
