"""Squeeze-and-excitation, mean → layer → activation → layer → gate, becomes one operator with a kernel.

A layer is a 1x1 convolution of one pixel, or what the choice made of it: a product of as many rows as there are
pictures, between two Reshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, prod

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.ir import attribute_values, constant_array, dims, metadata, new_constant, static_dims, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.squeeze_excite import KINDS, SIXTH, Kind
from ....compiler.optimise import Names
from ....compiler.replace import replace as take_place
from ..pixel_mean import means_pixels

LARGEST = 1 << 22  # elements of a layer's weight
VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten"])
ACTIVATIONS = frozenset(["Relu", "HardSwish"])


@dataclass(frozen=True)
class Layer:
    """A product with a constant, as it lies in the kernel's operands: w (outputs, inputs), bias (outputs)."""

    w: Array
    bias: Array
    result: ir.Value
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Squeeze:
    """What a mean's readers compute, from its pictures to what weighs their channels."""

    kind: Kind
    layers: tuple[Layer, Layer]
    result: ir.Value
    nodes: tuple[ir.Node, ...]


def squeeze_excites(model: ir.Model) -> ir.Model | None:
    """The model with such operators; None where there are none."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    found = [s for s in map(squeeze_at, list(result.graph)) if s is not None]
    for squeeze in found:
        _write(result.graph, squeeze, fresh)
    if not found:
        return None
    remove_unused(result.graph)
    return result


def squeeze_at(mean: ir.Node) -> Squeeze | None:
    """Squeeze-and-excitation that begins with this mean; None where something else reads what lies between."""
    if not means_pixels(mean) or mean.inputs[0] is None:
        return None
    picture = static_dims(mean.inputs[0])
    first = None if picture is None else _layer_of(mean.outputs[0], picture[1])
    if picture is None or first is None:
        return None
    activation, small, active = _activated(first.result)
    second = _layer_of(small, len(first.w))
    if second is None or len(second.w) != picture[1]:
        return None
    gate, result, gated = _gated(second.result)
    nodes = (mean, *first.nodes, *active, *second.nodes, *gated)
    kind = Kind(activation, gate)
    if kind not in KINDS or static_dims(result) != (*picture[:2], 1, 1):
        return None
    if any(node.graph is not mean.graph for node in nodes):  # some of it is done in a branch or a loop
        return None
    return Squeeze(kind, (first, second), result, nodes)


def _layer_of(value: ir.Value, inputs: int) -> Layer | None:
    """The layer that alone reads a value of one row a picture."""
    value, views = _viewed(value)
    node, shape = _only_reader(value), static_dims(value)
    if node is None or not shape or prod(shape) != inputs * shape[0] or node.inputs[0] is not value:
        return None
    w = _weight(node)
    if w is None or w.shape[1] != inputs:
        return None
    bias, result, nodes = _bias(node, len(w)), node.outputs[0], (*views, node)
    if bias is None and any(v is not None for v in node.inputs[2:]):  # something else is added
        return None
    add = _only_reader(result)
    other = None if bias is not None or add is None else _added(add, result, len(w))
    if add is not None and other is not None:
        bias, result, nodes = other, add.outputs[0], (*nodes, add)
    return Layer(w, np.zeros(len(w), w.dtype) if bias is None else bias, result, nodes)


def _weight(node: ir.Node) -> Array | None:
    """(outputs, inputs) of a product with a constant, None for other nodes."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    array, given = constant_array(node.inputs[1], LARGEST), attribute_values(node)
    if array is None:
        return None
    if node.domain == DOMAIN and node.op_type in ("Linear", "LinearAdd"):
        return array
    if node.domain:
        return None
    if node.op_type == "Conv":
        plain = given.get("group", 1) == 1 and not any(given.get("pads", ())) and set(given.get("strides", (1,))) == {1}
        plain = plain and given.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        return array[:, :, 0, 0] if plain and array.shape[2:] == (1, 1) else None
    if node.op_type == "MatMul" and array.ndim == 2:
        return array.T
    plain = given.get("alpha", 1.0) == 1 and given.get("beta", 1.0) == 1 and not given.get("transA")
    if node.op_type != "Gemm" or not plain:
        return None
    return array if given.get("transB") else array.T


def _bias(node: ir.Node, outputs: int) -> Array | None:
    """What a layer adds itself."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    array = None if value is None else constant_array(value, outputs)
    plain = array is not None and array.size == outputs and array.shape[-1:] == (outputs,)
    return array.reshape(-1) if array is not None and plain else None


def _added(add: ir.Node, value: ir.Value, outputs: int) -> Array | None:
    """A constant of one number an output that is added to a value."""
    others = [v for v in add.inputs if v is not value]
    if add.domain or add.op_type != "Add" or len(others) != 1 or others[0] is None:
        return None
    array, shape = constant_array(others[0], outputs), dims(value)
    if array is None or array.size != outputs or shape is None or dims(add.outputs[0]) != shape:
        return None
    along = [axis for axis, size in enumerate(array.shape[::-1]) if size == outputs]
    pixel = len(shape) == 4 and shape[1] == outputs
    return array.reshape(-1) if outputs == 1 or along == [2 if pixel else 0] else None


def _activated(value: ir.Value) -> tuple[str, ir.Value, tuple[ir.Node, ...]]:
    """The activation that follows a layer, its result and its nodes; no name where there is none that is known."""
    readers = list(dict.fromkeys(node for node, _ in value.uses()))
    if value.is_graph_output() or any(r.domain for r in readers):
        return "", value, ()
    if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
        return readers[0].op_type, readers[0].outputs[0], (readers[0],)
    gate = next((r for r in readers if r.op_type == "Sigmoid"), None)
    product = next((r for r in readers if r.op_type == "Mul"), None)
    if len(readers) != 2 or gate is None or product is None or _only_reader(gate.outputs[0]) is not product:
        return "", value, ()
    return "Silu", product.outputs[0], (gate, product)


def _gated(value: ir.Value) -> tuple[str, ir.Value, tuple[ir.Node, ...]]:
    """The gate that follows a layer, on either side of views, as `_activated` gives it."""
    value, before = _viewed(value)
    node = _only_reader(value)
    if node is None or not (node.op_type == "Sigmoid" or _is_hard_sigmoid(node)) or node.domain:
        return "", value, ()
    result, after = _viewed(node.outputs[0])
    return node.op_type, result, (*before, node, *after)


def _viewed(value: ir.Value) -> tuple[ir.Value, tuple[ir.Node, ...]]:
    """What views make of a value, as long as nothing else reads it, and the views."""
    views: list[ir.Node] = []
    node = _only_reader(value)
    while node is not None and not node.domain and node.op_type in VIEWS and node.inputs[0] is value:
        views.append(node)
        value = node.outputs[0]
        node = _only_reader(value)
    return value, tuple(views)


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value, where no other does and the caller does not."""
    readers = list(dict.fromkeys(node for node, _ in value.uses()))
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _is_hard_sigmoid(node: ir.Node) -> bool:
    """Whether it is x/6 + 1/2 within 0 and 1."""
    if node.domain or node.op_type != "HardSigmoid":
        return False
    given = {k: node.attributes[k].as_float() for k in ("alpha", "beta") if k in node.attributes}
    return isclose(given.get("alpha", 0.2), SIXTH, rel_tol=1e-6) and given.get("beta", 0.5) == 0.5


def _write(graph: ir.Graph, squeeze: Squeeze, fresh: Names) -> None:
    """The operator in the place of all that it computes."""
    mean, last, old = squeeze.nodes[0], squeeze.nodes[-1], squeeze.result
    operands: list[ir.Value | None] = [mean.inputs[0]]
    for layer in squeeze.layers:
        operands += (_constant(graph, array, fresh) for array in (layer.w[:, :, None, None], layer.bias))
    result = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    written = dict(metadata("squeeze_excites", [n.name or "" for n in squeeze.nodes]))
    made = ir.Node(
        DOMAIN,
        squeeze.kind.name,
        operands,
        outputs=[result],
        name=fresh("tamago/squeeze_excite"),
        metadata_props=written,
    )
    graph.insert_before(last, made)
    take_place(old, result, fresh)
    _remove(graph, squeeze.nodes)


def _constant(graph: ir.Graph, array: Array, fresh: Names) -> ir.Value:
    value = new_constant(fresh("tamago/constant"), np.ascontiguousarray(array))
    graph.register_initializer(value)
    return value


def _remove(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    for gone in reversed(nodes):
        if not any(o.uses() or o.is_graph_output() for o in gone.outputs):
            graph.remove(gone, safe=True)
