"""Free dimensions at the sizes a program is meant for: what prices and trials are taken at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from .facts import Array, Dim, Fact
from .ir import dims

Sizes = Mapping[str, int]


def sizes_of(graph: ir.Graph, feeds: Mapping[str, Array] | None) -> dict[str, int]:
    """The size that each named dimension of the graph's inputs has in these feeds."""
    found: dict[str, int] = {}
    for value in graph.inputs:
        array = (feeds or {}).get(value.name or "")
        shape = dims(value)
        if array is None or shape is None or isinstance(array, list):
            continue  # the tensors of a sequence need not agree
        found.update({d: n for d, n in zip(shape, np.shape(array), strict=False) if isinstance(d, str)})
    return found


def settle(model: ir.Model, sizes: Sizes) -> None:
    """Say everywhere in a model what its free dimensions are.

    Args:
        model: changed in place: shapes only.
        sizes: by the name of a dimension.
    """
    values = [*model.graph.inputs, *model.graph.outputs, *(v for n in model.graph.all_nodes() for v in n.outputs)]
    for value in values:
        declared = dims(value)
        if declared is not None and not all(isinstance(d, int) for d in declared):
            value.shape = ir.Shape(shape_at(declared, sizes))


def bound(fact: Fact, sizes: Sizes) -> Fact:
    """The fact with every dimension that these sizes determine, products and sums of names included."""
    if not sizes or fact.shape is None or all(isinstance(d, int) for d in fact.shape):
        return fact
    return replace(fact, shape=shape_at(fact.shape, sizes))


def shape_at(shape: Sequence[Dim], sizes: Sizes) -> tuple[Dim, ...]:
    """A shape with every dimension that these sizes determine."""
    return tuple(_number(d, sizes) for d in shape)


def _number(dim: Dim, sizes: Sizes) -> Dim:
    if not isinstance(dim, str):
        return dim
    if dim in sizes:
        return sizes[dim]
    try:
        found = ir.SymbolicDim(dim).evaluate(dict(sizes))
    except (ValueError, TypeError, SyntaxError, ArithmeticError):
        return dim
    return found if isinstance(found, int) else dim
