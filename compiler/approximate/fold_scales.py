"""A factor that all readers of a normalisation put on it goes into its scale.

    Norm(x, g)·c = Norm(x, g·c)    Norm(x, g, b)·c = Norm(x, g·c, b·c)    # c a constant for each feature

The e-graph knows these identities too, but it works before forms are chosen. A form that scales its place's input
writes a product of its own, since other places may read the same value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import constant_tensor, new_constant, op_name

AFFINE = {  # inputs that the factor is taken into
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "com.microsoft::SimplifiedLayerNormalization": (1,),
    "com.microsoft::SkipLayerNormalization": (2, 3),
    "com.microsoft::SkipSimplifiedLayerNormalization": (2,),
}


def fold_scales(graph: ir.Graph, fresh: Callable[[str], str]) -> None:
    """Apply it in place, to every normalisation of the graph."""
    for node in graph:
        if op_name(node) in AFFINE:
            _fold(graph, node, fresh)


def _fold(graph: ir.Graph, node: ir.Node, fresh: Callable[[str], str]) -> None:
    normalised = node.outputs[0]
    factor = common_factor(graph, normalised)
    if factor is None or not takes_factor(node, factor.shape):
        return
    scale_normalisation(graph, node, factor, fresh)
    for use in list(normalised.uses()):
        use.node.outputs[0].replace_all_uses_with(normalised)


def takes_factor(node: ir.Node, shape: tuple[int, ...]) -> bool:
    """Whether a normalisation's scale and shift are constants of this shape, as a factor must be to go into them."""
    vectors = [_constant(value) for value in _affine(node).values()]
    return bool(vectors) and all(vector is not None and vector.shape == shape for vector in vectors)


def scale_normalisation(graph: ir.Graph, node: ir.Node, factor: Array, fresh: Callable[[str], str]) -> None:
    """Norm(x, g, b) → Norm(x, g·c, b·c), in place; the normalisation takes a factor of that shape."""
    for i, value in _affine(node).items():
        vector = _constant(value)
        assert vector is not None  # `takes_factor` has asked
        scaled = new_constant(fresh(f"{value.name}/scaled"), np.multiply(vector, factor))
        graph.register_initializer(scaled)
        node.replace_input_with(i, scaled)


def _affine(node: ir.Node) -> dict[int, ir.Value]:
    """A normalisation's scale and shift, by position."""
    return {i: v for i, v in enumerate(node.inputs) if i in AFFINE[op_name(node)] and v is not None}


def common_factor(graph: ir.Graph, value: ir.Value) -> Array | None:
    """The constant of more than one number that all readers of a value multiply it by, doing nothing else with it."""
    readers = [use.node for use in value.uses()]
    if not readers or value.is_graph_output():
        return None
    if any(op_name(r) != "Mul" or r.graph is not graph or r.outputs[0].is_graph_output() for r in readers):
        return None
    first, *others = [_constant(reader.inputs[1]) for reader in readers]
    same = first is not None and all(other is not None and np.array_equal(first, other) for other in others)
    return first if same else None


def _constant(value: ir.Value | None) -> Array | None:
    """A constant of a number for each feature or channel."""
    tensor = None if value is None else constant_tensor(value)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 1:
        return None
    return tensor.numpy()
