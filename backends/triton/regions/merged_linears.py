"""Products of one row with several matrices become one product with the matrices on top of one another.

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
from ....compiler.optimise import Names
from ....compiler.replace import replace

WEIGHT = {"Linear": 1, "NormLinear": 2}


def merged_linears(model: ir.Model) -> ir.Model | None:
    """The model with such products merged; None where there are none."""
    result = model.clone()
    groups: dict[tuple[object, ...], list[ir.Node]] = {}
    for node in result.graph:
        if node.domain == DOMAIN and node.op_type in WEIGHT and _weight(node) is not None:
            others = tuple(id(v) for v in node.inputs[: WEIGHT[node.op_type]])
            epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 0.0
            groups.setdefault((node.op_type, epsilon, *others), []).append(node)
    found = [nodes for nodes in groups.values() if len(nodes) > 1]
    if not found:
        return None
    fresh = Names(unique_names(result.graph))
    for nodes in found:
        _merge(result.graph, nodes, fresh)
    remove_unused(result.graph)
    return result


def _weight(node: ir.Node) -> ir.TensorProtocol | None:
    value = node.inputs[WEIGHT[node.op_type]]
    tensor = None if value is None else constant_tensor(value)
    return tensor if tensor is not None and len(tensor.shape) == 2 else None


def _merge(graph: ir.Graph, nodes: Sequence[ir.Node], fresh: Names) -> None:
    first, place = nodes[0], WEIGHT[nodes[0].op_type]
    arrays = [np.asarray(t.numpy()) for t in map(_weight, nodes) if t is not None]
    weight = new_constant(fresh("tamago/merged"), np.concatenate(arrays))
    sizes = new_constant(fresh("tamago/sizes"), np.asarray([len(a) for a in arrays], np.int64))
    for value in (weight, sizes):
        graph.register_initializer(value)
    result = ir.Value(name=fresh("tamago/value"), type=first.outputs[0].type)
    shape = first.outputs[0].shape
    if shape is not None:
        result.shape = ir.Shape([*shape[:-1], sum(map(len, arrays))])
    props = dict(metadata("merged_linears", [n.name or "" for n in nodes]))
    product = ir.Node(
        first.domain,
        first.op_type,
        [*first.inputs[:place], weight],
        list(first.attributes.values()),
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
    graph.insert_before(first, [product, split])  # the first of them: all read the same row
    for node, part in zip(nodes, parts, strict=True):
        replace(node.outputs[0], part, fresh)
