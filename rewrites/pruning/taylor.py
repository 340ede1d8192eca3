"""Taylor: the units go without which the loss would rise least, by its gradient where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod

import numpy as np

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.facts import Array, Floats
from .groups import Group
from .layout import Layout
from .prune import variants

MOST_SAMPLES = 256  # seen: a score averages over all of them


@structure(paper="Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, arXiv:1906.10771")
def taylor(observed: Observed) -> Iterator[Variant]:
    """Channels go whose Σ (Σ g·x)² is least: x what they hold, g the loss's gradient there.

    The inner sum runs over the positions that one term of the loss judges, the outer one over terms: it is the loss's
    rise to second order, with the Fisher information in the Hessian's place. Where a stream of sums is read at several
    depths, what it holds at one is counted again at the next, which keeps such channels longer.
    """
    yield from variants(observed, rises)


def rises(observed: Observed, groups: Sequence[Group]) -> list[Floats]:
    """For each group how much the loss would rise without each unit, up to a factor."""
    output = observed.model.graph.outputs[0].name or ""
    names = sorted({v.name or "" for g in groups for v in g.read} | {output})
    totals = [np.zeros(g.units) for g in groups]
    for found in islice(observed.gradients(names), MOST_SAMPLES):
        terms = prod(found[output][0].shape[:-1]) if output in found else 1
        for total, group in zip(totals, groups, strict=True):
            total += _rise(group, found, terms)
    return list(totals)


def _rise(group: Group, found: dict[str, tuple[Array, Array]], terms: int) -> Floats:
    parts = [_by_term(*found[v.name or ""], layout, terms) for v, layout in group.read.items()]
    if len({len(p) for p in parts}) > 1:  # read by position here, by example there
        return np.sum([np.square(p).sum(axis=0) for p in parts], axis=0)
    return np.square(np.sum(parts, axis=0)).sum(axis=0)


def _by_term(x: Array, g: Array, layout: Layout, terms: int) -> Floats:
    """Σ g·x of each unit, [terms, units]: over an example's positions, unless the loss judges each of them."""
    product = np.moveaxis(np.multiply(x, g, dtype=np.float64), layout.axis, -1)
    units = product.reshape(*product.shape[:-1], layout.outer, layout.units, layout.inner).sum(axis=(-3, -1))
    if 2 * terms >= prod(units.shape[:-1]):
        return units.reshape(-1, layout.units)
    return units.reshape(len(units), -1, layout.units).sum(axis=1)
