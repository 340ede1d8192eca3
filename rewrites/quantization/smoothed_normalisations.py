"""SmoothQuant's scales where they are free: between a normalisation and all products that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.fold_scales import AFFINE, scale_normalisation, takes_factor
from ...compiler.approximate.places import Place, find_places
from ...compiler.approximate.preparation import preparation
from ...compiler.approximate.structure import Observed
from ...compiler.facts import Array, Floats
from ...compiler.fold import remove_unused
from ...compiler.ir import constant_tensor, graphs, new_constant, op_name, unique_names
from ...compiler.optimise import Names
from ...compiler.rule import Skip
from .scaled_inputs import best_scales, sizes

STRENGTHS = (0.35, 0.5, 0.65, 0.75, 0.85)
STEPS = 255  # between the least and the largest activation
LARGEST = 127  # code of a weight


@preparation(paper="Xiao et al., SmoothQuant, ICML 2023, arXiv:2211.10438 (scales fused into the previous layer)")
def smoothed_normalisations(observed: Observed) -> ir.Model:
    """Norm(x, g, b)·Wₖ = Norm(x, g/s, b/s)·(s·Wₖ) for all Wₖ that read it, sᵢ = max|yᵢ|^α / maxₖ|Wₖᵢ|^(1−α).

    The scales are those of the least error in int8 over all readers together; where none is better, none are used. A
    form of one reader alone could not be written so: the others would see its scales.
    """
    model = observed.model.clone()
    groups = list(_groups(model.graph))
    if not groups:
        raise Skip("no normalisation is read by products alone")
    seen = _statistics(observed, groups)
    fresh, changed, reasons = Names(unique_names(model.graph)), 0, list[str]()
    for group in groups:
        try:
            scale = _scale(group, seen)
        except Skip as reason:  # the others may be helped
            reasons.append(str(reason))
            continue
        if scale is not None:
            _scale_group(group, scale.astype(np.float32), fresh)
            changed += 1
    if not changed:
        raise Skip(*reasons[:1] or ["no normalisation has features so much larger than others that scales help"])
    for graph in graphs(model.graph):
        remove_unused(graph)
    return model


@dataclass(frozen=True)
class _Group:
    """A normalisation, and the places that read it."""

    graph: ir.Graph
    norm: ir.Node
    places: Sequence[Place]

    @property
    def name(self) -> str:
        return self.norm.outputs[0].name or ""


@dataclass(frozen=True)
class _Statistics:
    """Of a value: least, largest and mean square of each feature, an entry a sample; of products: mean squared size."""

    low: tuple[Floats, ...]
    high: tuple[Floats, ...]
    power: tuple[Floats, ...]
    products: Mapping[str, float]

    @cached_property
    def peak(self) -> Floats:
        """The largest |y| of each feature."""
        return np.max([np.maximum(-low, high) for low, high in zip(self.low, self.high, strict=True)], axis=0)

    @cached_property
    def halves(self) -> tuple[_Statistics, _Statistics]:
        """Every other sample in either; a single one in both."""
        if len(self.low) == 1:
            return self, self
        first, second = (
            _Statistics(self.low[i::2], self.high[i::2], self.power[i::2], self.products) for i in range(2)
        )
        return first, second


def _groups(graph: ir.Graph) -> Iterator[_Group]:
    places: dict[ir.Value, list[Place]] = {}
    for place in find_places(graph):
        if place.kind == "linear":
            places.setdefault(place.x, []).append(place)
    for inner in graphs(graph):
        for node in inner:
            readers = places.get(node.outputs[0], []) if op_name(node) in AFFINE else []
            if readers and _is_closed(node, inner, readers):
                yield _Group(inner, node, readers)


def _is_closed(norm: ir.Node, graph: ir.Graph, readers: Sequence[Place]) -> bool:
    """Whether these places alone read the normalisation, and nobody else reads their weights."""
    y = norm.outputs[0]
    return (
        not y.is_graph_output()
        and len(y.uses()) == len(readers)
        and all(p.nodes[0].graph is graph and len(p.weight_value.uses()) == 1 for p in readers)
        and takes_factor(norm, readers[0].shape[:1])
    )


def _statistics(observed: Observed, groups: Sequence[_Group]) -> dict[str, _Statistics]:
    names = [group.name for group in groups]
    ends = [place.y.name or "" for group in groups for place in group.places]
    rows: dict[str, list[tuple[Floats, Floats, Floats]]] = {name: [] for name in names}
    products = dict.fromkeys(ends, 0.0)
    for values in observed.values([*names, *ends]):
        for name in names:
            if name in values and values[name].size:
                y = _rows(values[name])
                rows[name].append((y.min(axis=0), y.max(axis=0), np.square(y).mean(axis=0)))
        for name in ends:
            if name in values and values[name].size:
                products[name] += float(np.mean(np.square(values[name], dtype=np.float64)) * values[name].shape[-1])
    return {name: _Statistics(*zip(*found, strict=True), products=products) for name, found in rows.items() if found}


def _rows(array: Array) -> Floats:
    return array.reshape(-1, array.shape[-1]).astype(np.float64)


def _scale(group: _Group, seen: Mapping[str, _Statistics]) -> Floats | None:
    """The scales of the normalisation's outputs; None where they are no better than none."""
    statistics = seen.get(group.name)
    if statistics is None:
        raise Skip("calibration saw no values of the normalisation")
    largest = sizes(np.max([np.abs(p.weight).max(axis=1) for p in group.places], axis=0), "the weights hold")
    return best_scales(
        statistics,
        statistics.halves,
        STRENGTHS,
        lambda some, strength: sizes(some.peak) ** strength / largest ** (1 - strength),
        lambda some, scale: _error(group.places, some, scale),
    )


def _error(places: Sequence[Place], seen: _Statistics, scale: Floats) -> float:
    """Σ of the products' relative squared errors in int8: both roundings as noise of a twelfth of their step squared.

    y/s has one step for a whole sample, s·W one for each of its columns.
    """
    steps = [
        (max(float((high / scale).max()), 0.0) - min(float((low / scale).min()), 0.0)) / STEPS
        for low, high in zip(seen.low, seen.high, strict=True)
    ]
    of_inputs = float(np.sum(np.square(steps)))
    power = float(np.sum(np.sum(seen.power, axis=0) / np.square(scale)))
    total = 0.0
    for place in places:
        scaled = np.multiply(place.weight, scale[:, None])
        of_weight = float(np.sum(np.square(np.abs(scaled).max(axis=0) / LARGEST)))
        error = of_inputs * float(np.sum(np.square(scaled))) + of_weight * power
        total += error / 12 / max(seen.products[place.y.name or ""], 1e-30)
    return total


def _scale_group(group: _Group, scale: Array, fresh: Names) -> None:
    scale_normalisation(group.graph, group.norm, np.reciprocal(scale), fresh)
    for place in group.places:
        node, old = place.nodes[0], place.weight_value
        tensor = constant_tensor(old)
        assert tensor is not None
        scaled = np.multiply(tensor.numpy(), scale if place.transposed else scale[:, None])
        constant = new_constant(fresh(f"{old.name}/smoothed"), scaled)
        group.graph.register_initializer(constant)
        node.replace_input_with(node.inputs.index(old), constant)
