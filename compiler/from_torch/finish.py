"""The finishing of a translated torch model: names, weights and outputs as users and files expect them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import graphs
from ..torch_tensors import to_numpy

if TYPE_CHECKING:
    from torch.utils._pytree import TreeSpec

# Metadata of torch's exporter that quotes the user's source (with paths of his machine) on every node.
_DROPPED = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node", "pkg.torch.onnx.class_hierarchy")
STRIP = 16  # columns: of float32 a line of the cache


def finish(model: ir.Model, dims: Mapping[str, str], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the model in place its users' names, weights of its own, and outputs that any runtime takes.

    Args:
        model: the translated model.
        dims: torch's symbol for a dynamic size -> the name it gets.
        inputs: the names of the graph's inputs; those of outputs give way to them.
        outputs: the names of the graph's outputs.
    """
    _own_weights(model)
    _rename_dimensions(model, dims)
    _separate_outputs(model.graph)
    rename(model.graph, model.graph.inputs, inputs)
    rename(model.graph, model.graph.outputs, _distinct(outputs, inputs))
    for graph in graphs(model.graph):
        for node in graph:
            for key in _DROPPED:
                node.metadata_props.pop(key, None)
    model.graph.metadata_props.clear()


def output_names(spec: TreeSpec, slots: Sequence[int | None]) -> list[str]:
    """A name for each output of the graph: the keys on its way through the result, `output` or `output_2` without.

    Args:
        spec: the nesting of the result.
        slots: for each leaf, the number of the graph's output that shows it; None for a constant.
    """
    names: dict[int, str] = {}
    for slot, path in zip(slots, _paths(spec), strict=True):
        if slot is not None:
            names.setdefault(slot, re.sub(r"\W", "_", "_".join(path)) or "output")
    ordered = [names[number] for number in sorted(names)]
    return [name if not name[0].isdigit() else f"output_{name}" for name in ordered]


def _paths(spec: TreeSpec) -> list[list[str]]:
    """For each leaf, the keys and indices that lead to it."""
    if spec.is_leaf():
        return [[]]
    keys = _keys(spec)
    return [[key, *rest] for key, child in zip(keys, spec.children(), strict=True) for rest in _paths(child)]


def _keys(spec: TreeSpec) -> list[str]:
    context: Any = spec.context
    if hasattr(context, "_fields"):  # a named tuple's class
        return list(context._fields)
    for found in (context, *(context if isinstance(context, (list, tuple)) else ())):
        if not isinstance(found, (list, tuple)) or len(found) != spec.num_children:
            continue
        if all(isinstance(key, str) for key in found):
            return list(found)
    return [str(number) for number in range(spec.num_children)]


def _own_weights(model: ir.Model) -> None:
    """Copy the weights out of the module, which may be trained on; what shares memory there is one initializer here."""
    kept: dict[Any, ir.Value] = {}
    for name, value in list(model.graph.initializers.items()):
        raw = getattr(value.const_value, "raw", None)
        place = _borrowed_place(raw)
        if place is None:
            continue
        first = kept.setdefault(place if value.const_value and value.const_value.size else name, value)
        if first is value:
            value.const_value = ir.tensor(_row_by_row(to_numpy(raw)), name=name)
        elif not value.is_graph_output():
            ir.convenience.replace_all_uses_with(value, first)
            del model.graph.initializers[name]


def _row_by_row(array: Array) -> Array:
    """A copy. Of a transposed matrix by strips of columns: going along whole rows would miss the cache everywhere."""
    if array.ndim != 2 or array.flags.c_contiguous:
        return np.array(array, order="C")
    copy = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], STRIP):
        copy[:, start : start + STRIP] = array[:, start : start + STRIP]
    return copy


def _borrowed_place(raw: object) -> tuple[Any, ...] | None:
    """What two tensors over the same memory have in common; None for contents that are the model's own.

    Borrowed are torch tensors, and the transposed views of them that the exporter's own folding leaves behind.
    """
    import torch

    if isinstance(raw, torch.Tensor):
        return raw.data_ptr(), raw.dtype, tuple(raw.shape), raw.stride()
    if isinstance(raw, np.ndarray) and not raw.flags.owndata:
        return raw.__array_interface__["data"][0], raw.dtype, raw.shape, raw.strides
    return None


def _rename_dimensions(model: ir.Model, dims: Mapping[str, str]) -> None:
    """Put the user's names in the place of torch's symbols, alone and in expressions, everywhere."""
    word = re.compile(r"[A-Za-z_]\w*")

    def renamed(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int) or dim.value is None:
            return dim if isinstance(dim, int) else None
        # torch writes a size that it found to be constant as text, too.
        text = word.sub(lambda found: dims.get(found[0], found[0]), str(dim.value))
        return int(text) if text.isdigit() else text

    for graph in [*graphs(model.graph), *(f.graph for f in model.functions.values())]:
        values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        for value in values:
            if value.shape is not None and not all(isinstance(dim, int) for dim in value.shape):
                value.shape = ir.Shape([renamed(dim) for dim in value.shape])


def _separate_outputs(graph: ir.Graph) -> None:
    """Pass an output that is an input, a weight, or the same value as an earlier output through an Identity."""
    seen: set[ir.Value] = set()
    for number, value in enumerate(list(graph.outputs)):
        if value not in seen and value.producer() is not None:
            seen.add(value)
            continue
        node = ir.node("Identity", [value])
        node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
        graph.append(node)
        graph.outputs[number] = node.outputs[0]


def rename(graph: ir.Graph, values: Sequence[ir.Value], names: Sequence[str]) -> None:
    """Give values their names; another value that has one already gives way."""
    everywhere = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    by_name = {value.name: value for value in everywhere}
    wanted = set(names)
    for value, name in zip(values, names, strict=True):
        other = by_name.get(name)
        if other is value:
            continue
        if other is not None:
            spare = f"{name}_inner"
            while spare in by_name or spare in wanted:
                spare += "_"
            by_name[spare], other.name = other, spare
        by_name[name], value.name = value, name


def _distinct(names: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Names with a number appended where they, or an input's, would repeat."""
    seen = set(taken)
    found: list[str] = []
    for wish in names:
        count = 1
        while (name := wish if count == 1 else f"{wish}_{count}") in seen:
            count += 1
        seen.add(name)
        found.append(name)
    return found
