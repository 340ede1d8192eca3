"""Every weight of a language model's products in few bits, because its owner said so: what it costs is not measured.

Rounded to nearest by blocks (Dettmers & Zettlemoyer, The case for 4-bit precision, ICML 2023, arXiv:2212.09720). The
embedding stays: a step reads one row of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.fold import remove_unused
from ...compiler.ir import attribute_values, constant_tensor, import_domains, metadata, new_constant, unique_names
from ...compiler.optimise import Names
from ...compiler.replace import replace
from .block_weights import pack_pairs, packed_rows, round_blocks

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def pack_weights(model: ir.Model, bits: int, block: int) -> int:
    """Write every product with a constant matrix as MatMulNBits, in place.

    Args:
        model: as it was traced.
        bits: 4 or 8.
        block: weights that share a scale.

    Returns:
        How many products there were.
    """
    fresh = Names(unique_names(model.graph))
    packed: dict[ir.Value, list[ir.Value | None]] = {}
    found = list(_products(model.graph, block))
    for node, weight, transposed in found:
        if weight not in packed:
            array = np.asarray(_content(weight))
            packed[weight] = _packed(model.graph, array if transposed else array.T, bits, block, fresh)
        _write(model.graph, node, packed[weight], bits, block, fresh)
    remove_unused(model.graph)
    import_domains(model)
    return len(found)


def _products(graph: ir.Graph, block: int) -> Iterator[tuple[ir.Node, ir.Value, bool]]:
    """Products with constant matrices, and whether those are laid out row by row of the result."""
    for node in list(graph):
        if node.op_type not in ("MatMul", "Gemm") or node.domain:
            continue
        attributes, weight = attribute_values(node), node.inputs[1]
        tensor = None if weight is None else constant_tensor(weight)
        if weight is None or tensor is None or len(tensor.shape) != 2 or tensor.dtype not in FLOATS:
            continue
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            continue
        transposed = bool(attributes.get("transB"))
        if int(tensor.shape.numpy()[1 if transposed else 0]) >= block and _has_plain_bias(node):
            yield node, weight, transposed


def _has_plain_bias(node: ir.Node) -> bool:
    """Whether nothing is added by the node, or a constant for each output."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if bias is None else constant_tensor(bias)
    return bias is None or (tensor is not None and len(tensor.shape) == 1)


def _content(weight: ir.Value) -> Array:
    tensor = constant_tensor(weight)
    assert tensor is not None
    return tensor.numpy()


def _packed(graph: ir.Graph, rows: Array, bits: int, block: int, fresh: Names) -> list[ir.Value | None]:
    """Codes, scales and zero points of (outputs, inputs)."""
    codes, scales, zeros = round_blocks(rows.T, bits, block)
    arrays = [codes if bits == 8 else pack_pairs(codes), scales.astype(rows.dtype)]
    arrays += [] if bits == 8 else [packed_rows(zeros)]
    found = [new_constant(fresh("tamago/packed"), np.ascontiguousarray(a)) for a in arrays]
    for value in found:
        graph.register_initializer(value)
    return [*found, *[None] * (3 - len(found))]


def _write(graph: ir.Graph, node: ir.Node, packed: list[ir.Value | None], bits: int, block: int, fresh: Names) -> None:
    codes, old = packed[0], node.outputs[0]
    assert codes is not None
    assert node.inputs[1] is not None
    outputs = int(_content(codes).shape[0])
    inputs = _content(node.inputs[1]).size // outputs
    bias = [None, node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] is not None else []
    sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": block}
    new = ir.Node(
        "com.microsoft",
        "MatMulNBits",
        [node.inputs[0], *packed, *bias],
        [ir.AttrInt64(k, v) for k, v in sizes.items()],
        num_outputs=1,
        name=fresh("tamago/packed_weights"),
        metadata_props=dict(metadata("packed_weights", [node.name or node.op_type])),
    )
    result = new.outputs[0]
    result.name, result.type, result.shape = fresh("tamago/value"), old.type, old.shape
    graph.insert_before(node, new)
    replace(old, result, fresh)
