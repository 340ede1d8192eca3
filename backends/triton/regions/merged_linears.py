"""Products of one value with several matrices become one product with the matrices on top of one another.

NormLinear(x, s, w₁), …, NormLinear(x, s, wₙ) = Split(NormLinear(x, s, [w₁; …; wₙ])): one kernel in the place of n, with
enough rows to keep the whole device busy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....compiler.fold import remove_unused
from ....compiler.ir import constant_tensor, metadata, new_constant, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.affine import AFFINES
from ....compiler.operators.operator import MICROSOFT
from ....compiler.optimise import Names
from ....compiler.replace import replace

WEIGHT = {  # where a weight's operands begin, how many they are, and its rank
    (DOMAIN, "Linear"): (1, 1, 2),
    (DOMAIN, "NormLinear"): (2, 1, 2),
    (DOMAIN, "NormLinearNBits"): (2, 3, 3),
    (MICROSOFT, "MatMulNBits"): (1, 3, 3),
    **{(DOMAIN, operator.name): (1, 2, 2) for operator in AFFINES if "r" not in operator.samples[0]},
    ("", "MatMul"): (1, 1, 2),
}


def merged_linears(model: ir.Model, *, plain: bool = True) -> ir.Model | None:
    """The model with such products merged (ONNX's own only with `plain`); None where there are none."""
    result = model.clone()
    groups: dict[tuple[object, ...], list[ir.Node]] = {}
    for node in result.graph:
        weight = _weight(node)
        if weight and (plain or node.domain):
            shared = tuple(id(v) for v in node.inputs[: _span(node)[0]])
            attributes = tuple(sorted((a.name, str(a.value)) for a in node.attributes.values() if a.name != "N"))
            kinds = tuple(None if t is None else (t.dtype, _others(tuple(t.shape), _axis(node))) for t in weight)
            groups.setdefault((node.domain, node.op_type, attributes, kinds, *shared), []).append(node)
    found = [nodes for nodes in groups.values() if len(nodes) > 1]
    if not found:
        return None
    fresh = Names(unique_names(result.graph))
    for nodes in found:
        _merge(result.graph, nodes, fresh)
    remove_unused(result.graph)
    return result


def _others(shape: tuple[object, ...], axis: int) -> tuple[object, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _span(node: ir.Node) -> tuple[int, int, int]:
    return WEIGHT.get((node.domain, node.op_type), (0, 0, 0))


def _axis(node: ir.Node) -> int:
    """Of a weight, the one with something for each output."""
    return 0 if node.domain else 1


def _weight(node: ir.Node) -> list[ir.TensorProtocol | None]:
    """A weight's operands, all constants with something for each output along one axis; none where not."""
    start, count, rank = _span(node)
    values = node.inputs[start : start + count]
    found = [None if v is None else constant_tensor(v) for v in values]
    if not found or found[0] is None or len(found[0].shape) != rank:
        return []
    if any(v is not None for v in node.inputs[start + count :]):  # a bias, or an order of inputs
        return []
    return [] if any(v is not None and t is None for v, t in zip(values, found, strict=True)) else found


def _merge(graph: ir.Graph, nodes: Sequence[ir.Node], fresh: Names) -> None:
    first, place = nodes[0], _span(nodes[0])[0]
    weights = [[None if t is None else np.asarray(t.numpy()) for t in _weight(n)] for n in nodes]
    axis = _axis(first)
    rows = [w[0].shape[axis] for w in weights if w[0] is not None]
    merged: list[ir.Value | None] = []
    for parts in zip(*weights, strict=True):
        arrays = [a for a in parts if a is not None]
        merged.append(new_constant(fresh("tamago/merged"), np.concatenate(arrays, axis)) if arrays else None)
    sizes = new_constant(fresh("tamago/sizes"), np.asarray(rows, np.int64))
    for value in (*merged, sizes):
        if value is not None:
            graph.register_initializer(value)
    result = ir.Value(name=fresh("tamago/value"), type=first.outputs[0].type)
    shape = first.outputs[0].shape
    if shape is not None:
        result.shape = ir.Shape([*shape[:-1], sum(rows)])
    props = dict(metadata("merged_linears", [n.name or "" for n in nodes]))
    attributes = [ir.AttrInt64("N", sum(rows)) if a.name == "N" else a for a in first.attributes.values()]
    product = ir.Node(
        first.domain,
        first.op_type,
        [*first.inputs[:place], *merged],
        attributes,
        outputs=[result],
        name=fresh("tamago/merged_linears"),
        metadata_props=props,
    )
    parts = [ir.Value(name=fresh("tamago/value"), type=n.outputs[0].type, shape=n.outputs[0].shape) for n in nodes]
    split = ir.Node(
        "",
        "Split",
        [result, sizes],
        [ir.AttrInt64("axis", -1)],
        outputs=parts,
        name=fresh("tamago/split"),
        metadata_props=props,
    )
    graph.insert_before(first, [product, split])  # the first of them: all read the same
    for node, part in zip(nodes, parts, strict=True):
        replace(node.outputs[0], part, fresh)
