"""Products of one value with several matrices become one product with the matrices side by side.

x·w₁ + b₁, …, x·wₙ + bₙ = Split(x·[w₁ … wₙ] + [b₁ … bₙ]): one dispatch in the place of n, and none for the Split, since
what reads its parts reads them where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.ir import constant_tensor, dims, metadata, new_constant, unique_names
from ....compiler.optimise import Names
from ....compiler.replace import replace


@dataclass(frozen=True)
class Product:
    """A product with a constant matrix, and what is added to it.

    Args:
        node: the product.
        weight: of shape (depth, columns).
        bias: of shape (columns,), None for none.
        result: with the bias added.
    """

    node: ir.Node
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol | None
    result: ir.Value


def parallel_products(model: ir.Model) -> ir.Model | None:
    """The model with such products merged; None where there are none."""
    result = model.clone()
    groups: dict[tuple[object, ...], list[Product]] = {}
    for node in result.graph:
        product = _product(node)
        if product is not None:
            key = (id(node.inputs[0]), product.weight.dtype, product.bias is None)
            groups.setdefault(key, []).append(product)
    found = [products for products in groups.values() if len(products) > 1]
    if not found:
        return None
    fresh = Names(unique_names(result.graph))
    for products in found:
        _merge(result.graph, products, fresh)
    remove_unused(result.graph)
    return result


def _product(node: ir.Node) -> Product | None:
    if node.domain not in ("", "ai.onnx") or node.op_type != "MatMul" or node.inputs[1] is None:
        return None
    weight, shape = constant_tensor(node.inputs[1]), dims(node.outputs[0])
    if weight is None or len(weight.shape) != 2 or shape is None or len(shape) < 2:
        return None
    value = node.outputs[0]
    uses = list(value.uses())
    add = uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
    if add is None or add.op_type != "Add" or add.domain not in ("", "ai.onnx"):
        return Product(node, weight, None, value)
    other = next((v for v in add.inputs if v is not None and v is not value), None)
    bias = None if other is None else constant_tensor(other)
    if bias is None or tuple(bias.shape) != (weight.shape[1],):
        return Product(node, weight, None, value)
    return Product(node, weight, bias, add.outputs[0])


def _merge(graph: ir.Graph, products: Sequence[Product], fresh: Names) -> None:
    first = products[0].node
    widths = [int(p.weight.shape[1]) for p in products]  # pyright: ignore[reportArgumentType]
    props = dict(metadata("parallel_products", [p.node.name or "" for p in products]))
    constants = {
        "merged": np.concatenate([np.asarray(p.weight.numpy()) for p in products], 1),
        "sizes": np.asarray(widths, np.int64),
    }
    biases = [np.asarray(p.bias.numpy()) for p in products if p.bias is not None]
    if biases:
        constants["biases"] = np.concatenate(biases)
    values = {stem: _constant(graph, fresh(f"tamago/{stem}"), array) for stem, array in constants.items()}
    shape = ir.Shape([*(dims(first.outputs[0]) or ())[:-1], sum(widths)])
    steps = [("MatMul", [first.inputs[0], values["merged"]])]
    if biases:
        steps.append(("Add", [None, values["biases"]]))
    nodes: list[ir.Node] = []
    value: ir.Value | None = None
    for op, inputs in steps:
        value, before = ir.Value(name=fresh("tamago/value"), type=first.outputs[0].type, shape=shape), value
        operands = [before if v is None else v for v in inputs]
        name = fresh("tamago/parallel_products")
        nodes.append(ir.Node("", op, operands, outputs=[value], name=name, metadata_props=props))
    parts = [ir.Value(name=fresh("tamago/value"), type=p.result.type, shape=p.result.shape) for p in products]
    axis = [ir.AttrInt64("axis", -1)]
    split = ir.Node("", "Split", [value, values["sizes"]], axis, outputs=parts, name=fresh("tamago/split"))
    split.metadata_props.update(props)
    graph.insert_before(first, [*nodes, split])  # the first of them: all read the same value
    for product, part in zip(products, parts, strict=True):
        replace(product.result, part, fresh)


def _constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    value = new_constant(name, array)
    graph.register_initializer(value)
    return value
