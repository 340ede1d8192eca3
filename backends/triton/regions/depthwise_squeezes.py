"""A depthwise convolution and the squeeze-and-excitation of its result become one operator with two results.

Depthwise Conv{act} → y → SqueezeExcite → s: the convolution's programs sum what they write, and no kernel reads y, the
largest of its block, for its means.
"""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.fold import remove_unused
from ....compiler.ir import constant_tensor, metadata, static_dims, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.depthwise_squeeze import KINDS
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..library.squeeze import WIDEST
from ..row_norm import HALVES

NARROWEST = 16  # channels of the convolution's kernel
NAMES = {(f"Conv{kind.first}", kind.squeeze.name): kind.name for kind in KINDS}


def depthwise_squeezes(model: ir.Model) -> ir.Model | None:
    """The model with such operators; None where there are none."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    found = [(deep, squeeze) for deep in result.graph if (squeeze := _squeezed_by(deep)) is not None]
    for deep, squeeze in found:
        _write(result.graph, deep, squeeze, fresh)
    if not found:
        return None
    remove_unused(result.graph)
    return result


def _squeezed_by(deep: ir.Node) -> ir.Node | None:
    """What weighs the channels of this depthwise convolution's result; None where nothing does, or for other nodes."""
    if deep.domain != DOMAIN or not deep.op_type.startswith("Conv") or len(deep.inputs) != 3:
        return None
    x, w = deep.inputs[:2]
    shape, weight = (None if v is None else static_dims(v) for v in (x, w))
    if x is None or x.dtype not in HALVES or shape is None or weight is None:
        return None
    if weight[:2] != (shape[1], 1) or shape[1] < NARROWEST:
        return None
    readers = [node for node, place in deep.outputs[0].uses() if node.domain == DOMAIN and place == 0]
    squeezes = (n for n in readers if (deep.op_type, n.op_type) in NAMES and n.graph is deep.graph)
    return next(filter(_is_narrow, squeezes), None)


def _is_narrow(squeeze: ir.Node) -> bool:
    """Whether the layers are constants, and the one between as wide as the kernels take at most."""
    if not all(v is not None and constant_tensor(v) is not None for v in squeeze.inputs[1:]):
        return False
    w = squeeze.inputs[1]
    shape = None if w is None else static_dims(w)
    return shape is not None and shape[0] <= WIDEST


def _write(graph: ir.Graph, deep: ir.Node, squeeze: ir.Node, fresh: Names) -> None:
    """The operator where the convolution was: what its weights are is known there."""
    old = deep.outputs[0], squeeze.outputs[0]
    new = [ir.Value(name=fresh("tamago/value"), type=v.type, shape=v.shape) for v in old]
    node = ir.Node(
        DOMAIN,
        NAMES[deep.op_type, squeeze.op_type],
        [*deep.inputs, *squeeze.inputs[1:]],
        list(deep.attributes.values()),
        outputs=new,
        name=fresh("tamago/depthwise_squeeze"),
        metadata_props=dict(metadata("depthwise_squeezes", [deep.name or "", squeeze.name or ""])),
    )
    graph.insert_before(deep, node)
    for before, after in zip(old, new, strict=True):
        replace(before, after, fresh)
    graph.remove([squeeze, deep], safe=True)
