"""L1: the filters with the smallest weights go; needs no data but for fitting what reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.facts import Floats
from .costs import unit_costs
from .groups import Group
from .prune import variants


@structure(paper="Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710")
def l1(observed: Observed) -> Iterator[Variant]:
    """Channels go whose Σ|W| over the weights that make them is least.

    A norm says nothing across layers: each is taken in units of its group's mean, as the authors prune layers alike.
    """
    yield from variants(observed, norms)


def norms(observed: Observed, groups: Sequence[Group]) -> list[Floats]:
    """For each group the relative norm of each unit's filters, times what a unit costs."""
    return relative(observed, groups, [_norm(g) for g in groups])


def relative(observed: Observed, groups: Sequence[Group], scores: Sequence[Floats]) -> list[Floats]:
    """Scores that only order units within a group, so that units alike in all groups are ranked alike."""
    costs = unit_costs(observed.model, groups)
    return [np.multiply(s, c / max(float(np.mean(s)), 1e-30)) for s, c in zip(scores, costs, strict=True)]


def _norm(group: Group) -> Floats:
    sources = [np.abs(np.asarray(part.array, np.float64)).sum(axis=1) for part in group.of("source")]
    return np.sum(sources, axis=0)
