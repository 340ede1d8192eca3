"""Squeeze-and-excitation, mean → 1x1 Conv → activation → 1x1 Conv → gate, becomes one operator with a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.ir import constant_tensor, dims, metadata, new_constant, static_dims, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.squeeze_excite import KINDS, SIXTH, Kind
from ....compiler.optimise import Names
from ....compiler.replace import replace as take_place
from ..pixel_mean import keeps, means_pixels
from .fused_epilogue import Fused, fused_at


@dataclass(frozen=True)
class Squeeze:
    """What a mean's readers compute, from its pictures to what weighs their channels."""

    kind: Kind
    first: Fused
    second: Fused
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
    if not means_pixels(mean) or not keeps(mean) or mean.inputs[0] is None or static_dims(mean.inputs[0]) is None:
        return None
    first = _product_of(mean.outputs[0])
    if first is None:
        return None
    second = _product_of(first.result)
    if second is None or dims(second.w) != (*(dims(first.w) or ())[1::-1], 1, 1):
        return None
    gate = second.epilogue.activation
    result, nodes = second.result, (mean, *first.nodes, *second.nodes)
    if not gate:
        hard = _only_reader(result)
        if hard is None or not _is_hard_sigmoid(hard):
            return None
        gate, result, nodes = "HardSigmoid", hard.outputs[0], (*nodes, hard)
    kind = Kind(first.epilogue.activation, gate)
    return Squeeze(kind, first, second, result, nodes) if kind in KINDS else None


def _product_of(value: ir.Value) -> Fused | None:
    """The convolution of one tap, with its activation, that alone reads a value of one pixel."""
    reader = _only_reader(value)
    fused = None if reader is None else fused_at(reader)
    if fused is None or fused.kind != "Conv" or fused.x is not value or fused.scale is not None or fused.norm:
        return None
    strides, pads, group = fused.attributes
    shape = dims(fused.w)
    plain = not any(pads.as_ints()) and set(strides.as_ints()) == {1} and group.as_int() == 1
    if shape is None or shape[2:] != (1, 1) or not plain or fused.residual is not None or fused.epilogue.after:
        return None
    return fused


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
    for fused in (squeeze.first, squeeze.second):
        operands += fused.w, _bias(graph, fused, fresh)
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


def _bias(graph: ir.Graph, fused: Fused, fresh: Names) -> ir.Value:
    if isinstance(fused.bias, ir.Value):
        return fused.bias
    tensor = constant_tensor(fused.w)
    assert tensor is not None
    zeros: Array = np.zeros(tensor.shape.numpy()[0], tensor.dtype.numpy())
    value = new_constant(fresh("tamago/constant"), zeros if fused.bias is None else fused.bias)
    graph.register_initializer(value)
    return value


def _remove(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    for gone in reversed(nodes):
        if not any(o.uses() or o.is_graph_output() for o in gone.outputs):
            graph.remove(gone, safe=True)
