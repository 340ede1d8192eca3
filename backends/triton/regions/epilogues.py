"""Convolutions and products take in what is done to their results, and what weighs their input.

Conv → activation → + r → activation, MatMul + b → … and depthwise Conv → Transpose → LayerNormalization are each one
operator with a kernel of its own; candidates of the kernel are measured against torch's own operators, call by call.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.ir import constant_tensor, metadata, new_constant, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.optimise import Names
from ....compiler.replace import replace as take_place
from .fused_epilogue import Fused, fused_at


def epilogues(model: ir.Model) -> ir.Model | None:
    """The model with such operators; None where there is nothing to fuse."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    found = 0
    turned: dict[ir.Value, ir.Value] = {}
    for node in list(result.graph):
        fused = None if node.graph is None else fused_at(node)
        if fused is not None and not alone(fused):
            write(result.graph, fused, turned, fresh)
            found += 1
    if not found:
        return None
    remove_unused(result.graph)
    return result


def alone(fused: Fused) -> bool:
    """Whether it is a product and nothing more: that is the library's."""
    return fused.kind == "Affine" and len(fused.nodes) == 1 and fused.bias is None


def write(graph: ir.Graph, fused: Fused, turned: dict[ir.Value, ir.Value], fresh: Names) -> ir.Node:
    """The operator in the place of all that it computes.

    `turned` keeps the weights that are already there row by row: several products may share one.
    """
    w, residual, last = fused.w, fused.residual, fused.nodes[-1]
    if fused.kind == "Affine" and not fused.attributes[0].as_int():
        if w not in turned:
            turned[w] = _constant(graph, np.ascontiguousarray(_contents(w).T), fresh)
        w = turned[w]
    zeros = np.zeros(_contents(w).shape[0], _contents(w).dtype)
    bias = zeros if fused.bias is None else fused.bias
    operands = [fused.x, w, bias if isinstance(bias, ir.Value) else _constant(graph, bias, fresh)]
    name = f"{fused.kind}{fused.epilogue.name}"
    if fused.norm:
        name = "ConvLayerNorm"
        operands += fused.norm if len(fused.norm) == 2 else (*fused.norm, _constant(graph, zeros, fresh))
    if fused.scale is not None:
        name = f"Scaled{name}"
        operands.append(fused.scale)
    old, view = fused.result, fused.view
    inner = old if view is None or view.inputs[0] is None else view.inputs[0]  # as large as what is computed
    if residual is not None:
        operands.append(residual if view is None else _back(graph, last, residual, view, inner, fresh))
    result = ir.Value(name=fresh("tamago/value"), type=old.type, shape=inner.shape)
    node = ir.Node(
        DOMAIN,
        name,
        operands,
        fused.attributes if fused.kind == "Conv" else (),
        outputs=[result],
        name=fresh("tamago/epilogue"),
        metadata_props=dict(metadata("epilogues", [n.name or "" for n in fused.nodes])),
    )
    graph.insert_before(last, node)
    take_place(old, result if view is None else _forth(graph, last, result, view, old, fresh), fresh)
    for gone in reversed(fused.nodes):
        if not any(o.uses() or o.is_graph_output() for o in gone.outputs):
            graph.remove(gone, safe=True)
    return node


def _back(graph: ir.Graph, place: ir.Node, value: ir.Value, view: ir.Node, like: ir.Value, fresh: Names) -> ir.Value:
    """The value as it was ahead of a view, as large as another, made ahead of a node."""
    if view.op_type == "Transpose":
        perm = list(view.attributes["perm"].as_ints())
        back = ir.AttrInt64s("perm", [perm.index(i) for i in range(len(perm))])
        return _viewed(graph, place, "Transpose", [value], [back], like, fresh)
    assert like.shape is not None
    sizes = _constant(graph, np.asarray(like.shape.numpy(), np.int64), fresh)
    return _viewed(graph, place, "Reshape", [value, sizes], [], like, fresh)


def _forth(graph: ir.Graph, place: ir.Node, value: ir.Value, view: ir.Node, like: ir.Value, fresh: Names) -> ir.Value:
    """The value through a view of another."""
    return _viewed(graph, place, view.op_type, [value, *view.inputs[1:]], list(view.attributes.values()), like, fresh)


def _viewed(
    graph: ir.Graph,
    place: ir.Node,
    op_type: str,
    operands: Sequence[ir.Value | None],
    attributes: Sequence[ir.Attr],
    like: ir.Value,
    fresh: Names,
) -> ir.Value:
    result = ir.Value(name=fresh("tamago/value"), type=like.type, shape=like.shape)
    graph.insert_before(place, ir.Node("", op_type, operands, attributes, outputs=[result], name=fresh("tamago/view")))
    return result


def _contents(value: ir.Value) -> Array:
    tensor = constant_tensor(value)
    assert tensor is not None
    return tensor.numpy()


def _constant(graph: ir.Graph, array: Array, fresh: Names) -> ir.Value:
    value = new_constant(fresh("tamago/constant"), array)
    graph.register_initializer(value)
    return value
