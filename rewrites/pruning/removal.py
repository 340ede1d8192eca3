"""A copy of a program without some units of its groups: constants cut, sizes and counts that state them corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.fold import remove_unused
from ...compiler.ir import constant_tensor, dims, new_constant, unique_names
from ...compiler.optimise import Names
from .groups import Group
from .layout import Indices, Layout

Operand = tuple[ir.Node, int]
Kept = Sequence[tuple[Group, Indices]]


def without(model: ir.Model, kept: Kept, replaced: Mapping[Operand, Array] | None = None) -> ir.Model:
    """The program with only some units of its groups.

    Args:
        model: in which the groups were found.
        kept: for each group that loses units, those that stay, in order.
        replaced: other contents of constant operands, of their old shape.
    """
    result = model.clone()
    twin = dict(zip(model.graph, result.graph, strict=True))
    for group, units in kept:
        for count in group.counts:
            twin[count.node].attributes[count.name] = ir.AttrInt64(count.name, count.each * len(units))
        for value, layout in group.values.items():
            _shorten(_twin_of(value, twin), layout, len(units))
    _cut(result.graph, twin, kept, replaced or {})
    remove_unused(result.graph)
    return result


def _twin_of(value: ir.Value, twin: Mapping[ir.Node, ir.Node]) -> ir.Value:
    producer, index = value.producer(), value.index()
    assert producer is not None
    assert index is not None
    return twin[producer].outputs[index]


def _shorten(value: ir.Value, layout: Layout, units: int) -> None:
    shape = list(dims(value) or ())
    shape[layout.axis] = layout.each * units
    value.shape = ir.Shape(shape)


def _cut(graph: ir.Graph, twin: Mapping[ir.Node, ir.Node], kept: Kept, replaced: Mapping[Operand, Array]) -> None:
    names = Names(unique_names(graph))
    cuts: dict[Operand, list[tuple[Layout, Indices]]] = {operand: [] for operand in replaced}
    entries: dict[Operand, dict[int, int]] = {}
    for group, units in kept:
        for part in group.slices:
            cuts.setdefault((part.node, part.index), []).append((part.layout, units))
        for size in group.sizes:
            entries.setdefault((size.node, size.index), {})[size.position] = size.each * len(units)
    same: dict[tuple[object, ...], ir.Value] = {}
    for operand in dict.fromkeys((*cuts, *entries)):
        node, index = operand
        old = node.inputs[index]
        assert old is not None
        key = _key(old, cuts.get(operand, []), entries.get(operand, {}), operand if operand in replaced else None)
        if key not in same:
            array = _changed(replaced.get(operand, _contents(old)), cuts.get(operand, []), entries.get(operand, {}))
            same[key] = new_constant(names(f"{old.name}/pruned"), array)
            graph.register_initializer(same[key])
        twin[node].replace_input_with(index, same[key])


def _key(
    old: ir.Value, cuts: Sequence[tuple[Layout, Indices]], entries: Mapping[int, int], own: Operand | None
) -> tuple[object, ...]:
    """Operands with equal keys read the same constant: those of tied weights stay tied."""
    return old, tuple((layout, units.tobytes()) for layout, units in cuts), tuple(sorted(entries.items())), own


def _contents(value: ir.Value) -> Array:
    tensor = constant_tensor(value)
    assert tensor is not None
    return tensor.numpy()


def _changed(array: Array, cuts: Sequence[tuple[Layout, Indices]], entries: Mapping[int, int]) -> Array:
    for layout, units in cuts:
        array = np.take(array, layout.indices(units), axis=layout.axis)
    if entries:
        array = array.copy()
        for position, entry in entries.items():
            array[position] = entry
    return array
