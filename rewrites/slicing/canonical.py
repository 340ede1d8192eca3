"""A copy of the program in the form that a rotation leaves alone: every norm is x/√(mean(x²) + ε) and nothing else.

SkipNorm(x, y) = Norm(x + y). Norm(x)·g·W + h·W = Norm₁(x)·(diag(g)·W) + h·W. LayerNorm₁(x) = RMSNorm₁(x − mean(x)),
and the mean of x = Σ xᵢ is taken off everything that is summed: W ← W·M, b ← b·M with M = I − 11ᵀ/D. All of it exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...compiler.fold import fold, remove_unused
from ...compiler.ir import attribute_values, constant_tensor, metadata, op_name, unique_names
from ...compiler.optimise import Names
from .layers import Layer, contents
from .residual_stream import Affine, Stream, find_streams
from .weights import Weights

SKIP_NORMS = {
    "com.microsoft::SkipSimplifiedLayerNormalization": ("RMS", 3),
    "com.microsoft::SkipLayerNormalization": ("LayerNormalization", 4),
}
OPSET = 23  # from here on RMSNormalization is ONNX's own

Fresh = Callable[[str], str]


def canonical(model: ir.Model) -> ir.Model:
    """The same function of the same inputs, with every residual stream in canonical form.

    Raises:
        Skip: there is no residual stream.
    """
    result = model.clone()
    graph = result.graph
    fresh = Names(unique_names(graph))
    fold(graph, result.opset_imports.get("", OPSET), fresh)
    for node in list(graph):
        if op_name(node) in SKIP_NORMS:
            _separate(graph, node, fresh)
    streams = find_streams(graph)
    weights = Weights(graph, fresh, "norm_folding")
    for stream in streams:
        _take_in(stream, weights)
    remove_unused(graph)
    for stream in find_streams(graph):
        if stream.centred:
            mean_free = np.eye(stream.width) - 1 / stream.width
            weights.write_all(stream, lambda _, m=mean_free: m)
        for norm in stream.norms:
            plain_norm(norm.node, stream.width, norm.epsilon, weights)
    remove_unused(graph)
    return result


def plain_norm(node: ir.Node, width: int, epsilon: float, weights: Weights) -> None:
    """Make a norm x/√(mean(x²) + ε), in place."""
    graph = weights.graph
    own = graph.opset_imports.get("", OPSET) >= OPSET
    x = node.inputs[0]
    operator = "RMSNormalization" if own else "SimplifiedLayerNormalization"
    attributes = [ir.AttrFloat32("epsilon", epsilon), ir.AttrInt64("axis", -1)]
    constant = weights.constant(("ones", width), lambda: np.ones(width))
    output = ir.Value(name=weights.fresh("tamago/value"), type=node.outputs[0].type, shape=node.outputs[0].shape)
    new = ir.Node("", operator, [x, constant], attributes, outputs=[output], name=node.name)
    new.metadata_props.update(metadata(weights.origin, [node.name or node.op_type]))
    replace_node(graph, node, new)


def replace_node(graph: ir.Graph, node: ir.Node, new: ir.Node) -> None:
    """The new node in the old one's place, under its first output's name."""
    graph.insert_after(node, [new])
    old, name = node.outputs[0], node.outputs[0].name
    old.replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    old.name, new.outputs[0].name = None, name


def _separate(graph: ir.Graph, node: ir.Node, fresh: Fresh) -> None:
    """SkipNorm(x, y, g, h, b) = Norm(x + y + b, g, h); its fourth output is the sum."""
    kind, bias_at = SKIP_NORMS[op_name(node)]
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:3]):
        return
    own = graph.opset_imports.get("", OPSET) >= OPSET
    operator = kind if kind != "RMS" else "RMSNormalization" if own else "SimplifiedLayerNormalization"
    about = metadata("skip_norm_as_sum", [node.name or node.op_type])
    y = node.outputs[0]

    def added(left: ir.Value | None, right: ir.Value | None) -> ir.Node:
        output = ir.Value(name=fresh("tamago/value"), type=y.type, shape=y.shape)
        return ir.Node("", "Add", [left, right], outputs=[output], name=fresh("tamago/sum"), metadata_props=dict(about))

    sums = [added(node.inputs[0], node.inputs[1])]
    if len(node.inputs) > bias_at and node.inputs[bias_at] is not None:
        sums.append(added(sums[0].outputs[0], node.inputs[bias_at]))
    total = sums[-1].outputs[0]
    epsilon = ir.AttrFloat32("epsilon", float(attribute_values(node).get("epsilon", 1e-12)))
    normalised = ir.Value(name=fresh("tamago/value"), type=y.type, shape=y.shape)
    new = ir.Node(
        "",
        operator,
        [total, *node.inputs[2:bias_at]],
        [epsilon, ir.AttrInt64("axis", -1)],
        outputs=[normalised],
        name=node.name,
        metadata_props=dict(about),
    )
    graph.insert_before(node, sums)
    if len(node.outputs) > 3:
        node.outputs[3].replace_all_uses_with(total, replace_graph_outputs=True)
    replace_node(graph, node, new)


def _take_in(stream: Stream, weights: Weights) -> None:
    """Scale and shift go from norms, and from products and sums behind them, into the layers."""
    for reading in stream.readings:
        if reading.affine is not None:
            _take_in_affine(reading.layer, reading.affine, weights)
    for node in stream.affine:
        kept = [v for v in node.inputs if v is not None and constant_tensor(v) is None]
        node.outputs[0].replace_all_uses_with(kept[0])
    for norm in stream.norms:
        width = len(norm.scale)
        ones = weights.constant(("ones", width), lambda w=width: np.ones(w))
        norm.node.replace_input_with(1, ones)
        if len(norm.node.inputs) > 2:
            norm.node.resize_inputs(2)


def _take_in_affine(layer: Layer, affine: Affine, weights: Weights) -> None:
    if np.any(affine.shift):
        weight = contents(layer.node.inputs[layer.weight])
        weights.add_bias(layer, layer.alpha * (affine.shift @ (weight if layer.rows == 0 else weight.T)))
    if np.any(affine.scale != 1):
        weights.read(layer, np.diag(affine.scale), affine.scale.tobytes())
