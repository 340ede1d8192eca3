"""Beta-Rank: the filters go that change little, as a regression's standardised coefficients measure it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.facts import Array, Floats
from ...compiler.ir import attribute_values, constant_tensor
from .groups import Group, Slice
from .l1 import relative
from .prune import variants
from .readers import patches

MOST_SAMPLES = 256  # one batch of the authors


@structure(paper="Homayounfar et al., Beta-Rank, 2023, arXiv:2304.07461")
def beta_rank(observed: Observed) -> Iterator[Variant]:
    """Channels go whose Σ|W|·Σ_positions std(y)/std(x) is least: y what the filter makes, x what it sees there.

    Deviations are over samples, that of x over all channels too: the authors' own code.
    """
    yield from variants(observed, coefficients)


@dataclass
class _Spread:
    """Sums over samples of what a source makes and of what it sees, position by position."""

    y: Floats
    y_square: Floats
    x: Floats
    x_square: Floats
    count: int = 0

    @property
    def ratio(self) -> Floats:
        """Σ over positions of std(y)/std(x), for each channel."""
        above, below = _deviation(self.y, self.y_square, self.count), _deviation(self.x, self.x_square, self.count)
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return ratio.reshape(len(ratio), -1).sum(axis=1)


def coefficients(observed: Observed, groups: Sequence[Group]) -> list[Floats]:
    """For each group the relative standardised coefficient of each unit, times what a unit costs."""
    nodes = {part.node: part for g in groups for part in g.of("source") if part.index == 1}
    spreads: dict[ir.Node, _Spread] = {}
    names = sorted({v.name or "" for node in nodes for v in (node.inputs[0], node.outputs[0]) if v is not None})
    for found in islice(observed.values(names), MOST_SAMPLES):
        for node in nodes:
            _add(spreads, node, found)
    scores = [np.sum([_score(part, spreads.get(part.node)) for part in g.of("source")], axis=0) for g in groups]
    return relative(observed, groups, scores)


def _add(spreads: dict[ir.Node, _Spread], node: ir.Node, found: dict[str, Array]) -> None:
    source = node.inputs[0]
    assert source is not None
    x, y = found.get(source.name or ""), found.get(node.outputs[0].name or "")
    if x is None or y is None or not _followed(node):
        return
    if node.op_type in ("Conv", "FusedConv"):
        y = np.moveaxis(np.asarray(y, np.float64), 1, 0)
        seen = np.stack([patches(node, one[None], y[0, 0].size) for one in x])  # [N, positions, patch]
        seen = seen.reshape(len(seen), *y.shape[2:], -1)
    else:  # all rows are samples of one position
        y = np.asarray(y, np.float64).reshape(-1, y.shape[-1]).T
        seen = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    new = _Spread(
        y.sum(axis=1),
        np.square(y).sum(axis=1),
        seen.mean(axis=-1).sum(axis=0),
        np.square(seen).mean(axis=-1).sum(axis=0),
    )
    old = spreads.setdefault(node, new)
    if old is not new and old.y.shape == new.y.shape:  # pictures of another size have other positions
        new = _Spread(old.y + new.y, old.y_square + new.y_square, old.x + new.x, old.x_square + new.x_square, old.count)
    if old.y.shape == new.y.shape:
        new.count += y.shape[1]
        spreads[node] = new


def _followed(node: ir.Node) -> bool:
    """Whether it is known what the source sees at each position; else its norm alone speaks."""
    padding = str(attribute_values(node).get("auto_pad", "NOTSET"))
    return node.op_type != "ConvTranspose" and padding in ("NOTSET", "VALID")


def _deviation(first: Floats, second: Floats, count: int) -> Floats:
    return np.sqrt(np.maximum(second / max(count, 1) - np.square(first / max(count, 1)), 0.0))


def _score(part: Slice, spread: _Spread | None) -> Floats:
    tensor, layout = constant_tensor(part.constant), part.layout
    assert tensor is not None
    weight = np.abs(np.moveaxis(np.asarray(tensor.numpy(), np.float64), layout.axis, 0))
    norms = weight.reshape(layout.length, -1).sum(axis=1)
    ratio = np.ones(layout.length) if spread is None else spread.ratio
    return (norms * ratio).reshape(layout.outer, layout.units, layout.inner).sum(axis=(0, 2))
