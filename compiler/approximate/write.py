"""Forms become nodes: a place's own in the model, or a model of their own to run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ..decode import new_attribute
from ..facts import Array
from ..fold import merge_twins, remove_unused
from ..inference import infer
from ..ir import graphs, import_domains, metadata, new_constant, unique_names
from ..optimise import Names
from ..rule import Expression, Value
from ..schema import split_name
from ..shared_sizes import share_sizes
from .fold_into_layers import fold_into_layers
from .fold_scales import fold_scales
from .method import Form
from .places import Place
from .share_codes import share_codes

OPSET = 23  # where no model says another


@dataclass
class Written:
    """A term as nodes in order, with the constants they read; `value` is the term's own."""

    value: ir.Value
    nodes: list[ir.Node] = field(default_factory=list[ir.Node])
    constants: list[ir.Value] = field(default_factory=list[ir.Value])


def write(term: Expression, x: ir.Value, fresh: Callable[[str], str], origin: str, sources: Sequence[str]) -> Written:
    """The nodes of a term.

    Args:
        term: an expression of one free value.
        x: what stands for that value.
        fresh: gives an unused name that starts with its argument.
        origin: the method's name, recorded in each node.
        sources: the model's nodes that the term stands for.
    """
    result = Written(x)
    known: dict[int, ir.Value] = {}

    def value_of(part: Expression | Value | Array | None) -> ir.Value | None:
        if part is None or isinstance(part, Value):
            return None if part is None else x
        if id(part) not in known:
            known[id(part)] = constant(part) if isinstance(part, np.ndarray) else node(part)
        return known[id(part)]

    def constant(array: Array) -> ir.Value:
        found = new_constant(fresh(f"tamago/{origin}"), array)
        result.constants.append(found)
        return found

    def node(expression: Expression) -> ir.Value:
        inputs = [value_of(child) for child in expression.inputs]
        domain, op_type = split_name(expression.op)
        attributes = [new_attribute(k, v) for k, v in expression.attributes.items() if v is not None]
        output = ir.Value(name=fresh("tamago/value"))
        result.nodes.append(
            ir.Node(
                domain,
                op_type,
                inputs,
                attributes,
                outputs=[output],
                name=fresh(f"tamago/{origin}"),
                metadata_props=dict(metadata(origin, sources)),
            )
        )
        return output

    result.value = node(term)
    return result


def alone(term: Expression, dtype: ir.DataType, rank: int, opset: int = OPSET) -> ir.Model:
    """A model that computes the term of its only input `x`, whatever that input's size."""
    x = ir.Value(name="x", shape=ir.Shape([None] * rank), type=ir.TensorType(dtype))
    written = write(term, x, Names({"x"}), "form", ())
    codes = dtype == ir.DataType.UINT8  # only integer kernels on codes take these, and they return codes
    written.value.type = ir.TensorType(ir.DataType.UINT8 if codes else ir.DataType.FLOAT)
    opsets = {"": opset} | {n.domain: 1 for n in written.nodes if n.domain}
    graph = ir.Graph(
        [x], [written.value], nodes=written.nodes, initializers=written.constants, opset_imports=opsets, name="form"
    )
    return ir.Model(graph, ir_version=10)


@dataclass(frozen=True)
class Chosen:
    """A form for a place, and the method it comes from."""

    method: str
    form: Form


def put(model: ir.Model, places: Sequence[Place], choice: Mapping[str, Chosen]) -> ir.Model:
    """A copy of the model with the chosen forms in their places.

    Args:
        model: the program that exact rewriting left.
        places: its places.
        choice: forms by the name of the place's output; a place that is missing stays as it is.
    """
    result = model.clone()
    graph = result.graph
    fresh = Names(unique_names(graph))
    by_output = {v.name: (node, v) for inner in graphs(graph) for node in inner for v in node.outputs}
    homes = {v.name: (inner, v) for inner in graphs(graph) for v in inner.initializers.values()}
    for place in places:
        chosen = choice.get(place.y.name or "")
        if chosen is None:
            continue
        if not place.nodes:
            _write_weight(*homes[place.y.name], chosen, fresh)
            continue
        last, old = by_output[place.y.name]
        first, _ = by_output[place.nodes[0].outputs[0].name]
        x = first.inputs[1 if place.kind == "embedding" else 0]
        assert x is not None
        sources = [n.name or n.op_type for n in place.nodes]
        written = write(chosen.form.term, x, fresh, chosen.method, sources)
        inner = last.graph
        assert isinstance(inner, ir.Graph)
        for constant in written.constants:
            inner.register_initializer(constant)
        inner.insert_after(last, written.nodes)
        _take_over(inner, old, written.value)
    for inner in graphs(graph):
        remove_unused(inner)  # the exact nodes: nobody reads them, but they read what may change
        fold_scales(inner, fresh)
        fold_into_layers(inner, fresh)
        merge_twins(inner)
        share_codes(inner, fresh)
        remove_unused(inner)
    infer(result)
    if share_sizes(graph):
        for inner in graphs(graph):
            remove_unused(inner)
    import_domains(result)
    return result


def _write_weight(graph: ir.Graph, weight: ir.Value, chosen: Chosen, fresh: Callable[[str], str]) -> None:
    """The form of a weight before everything that may read it."""
    first = next(iter(graph))
    written = write(chosen.form.term, weight, fresh, chosen.method, ())
    for constant in written.constants:
        graph.register_initializer(constant)
    written.value.type, written.value.shape = weight.type, weight.shape
    weight.replace_all_uses_with(written.value)
    graph.insert_before(first, written.nodes)


def _take_over(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """The new value under the old one's name, also where it is an output."""
    name, output = old.name, old.is_graph_output()
    new.type, new.shape = old.type, old.shape
    if output:
        for position, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[position] = new
    old.replace_all_uses_with(new)
    old.name = f"{name}/exact"
    new.name = name


def attributes_of(place: Place) -> dict[str, Any]:
    """The place's own attributes as an expression takes them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in place.attributes.items()}
