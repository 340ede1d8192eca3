"""Products of many rows take in the norm ahead of them: Affine…(LayerNormalization(x, s, t), w, b) = NormAffine….

Each program of the product then takes the moments of its rows itself. That is more work where rows are many, and one
kernel less to wait for where they are few.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.fold import remove_unused
from ....compiler.ir import dims, metadata, new_constant, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.affine import AFFINES
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..row_norm import LONGEST, epsilon_of, normalises_rows
from .epilogues import write
from .fused_epilogue import fused_at

PRODUCTS = frozenset(operator.name for operator in AFFINES)


def normed_affines(model: ir.Model) -> ir.Model | None:
    """The model with such products; None where there are none."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    turned: dict[ir.Value, ir.Value] = {}
    found = 0
    for norm in list(result.graph):
        if norm.op_type != "LayerNormalization" or not normalises_rows(norm) or not _short(norm.outputs[0]):
            continue
        product = _product(result.graph, norm, turned, fresh)
        if product is not None:
            _take_in(result.graph, norm, product, fresh)
            found += 1
    if not found:
        return None
    remove_unused(result.graph)
    return result


def _short(value: ir.Value) -> bool:
    shape = dims(value)
    return shape is not None and isinstance(shape[-1], int) and shape[-1] <= LONGEST


def _product(graph: ir.Graph, norm: ir.Node, turned: dict[ir.Value, ir.Value], fresh: Names) -> ir.Node | None:
    """The product that alone reads a norm's result; a standard one becomes an operator of ours first."""
    normal = norm.outputs[0]
    reader = _only_reader(normal, graph)
    if reader is None:
        return None
    fused = fused_at(reader)
    if fused is not None and fused.kind == "Affine" and fused.x is normal:
        write(graph, fused, turned, fresh)
        reader = _only_reader(normal, graph)
    if reader is None or reader.domain != DOMAIN or reader.op_type not in PRODUCTS or reader.inputs[0] is not normal:
        return None
    return reader


def _only_reader(value: ir.Value, graph: ir.Graph) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.graph is not graph:
        return None
    return uses[0].node


def _take_in(graph: ir.Graph, norm: ir.Node, product: ir.Node, fresh: Names) -> None:
    x, scale, *shift = norm.inputs
    old = product.outputs[0]
    node = ir.Node(
        DOMAIN,
        f"Norm{product.op_type}",
        [x, scale, shift[0] if shift and shift[0] is not None else _zeros(graph, norm, fresh), *product.inputs[1:]],
        [ir.AttrFloat32("epsilon", epsilon_of(norm))],
        outputs=[ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)],
        name=fresh("tamago/normed_affine"),
        metadata_props=dict(metadata("normed_affines", [norm.name or "", product.name or ""])),
    )
    graph.insert_before(product, node)
    replace(old, node.outputs[0], fresh)
    graph.remove([product, norm], safe=True)


def _zeros(graph: ir.Graph, norm: ir.Node, fresh: Names) -> ir.Value:
    """A shift for a norm that has none."""
    scale = norm.inputs[1]
    assert scale is not None
    assert scale.dtype is not None
    assert scale.shape is not None
    value = new_constant(fresh("tamago/constant"), np.zeros(scale.shape.numpy(), scale.dtype.numpy()))
    graph.register_initializer(value)
    return value
