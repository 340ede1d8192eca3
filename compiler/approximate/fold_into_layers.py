"""A factor that all readers of a layer put on its outputs goes into the layer's weights.

    f(W∗x + b)·c = f((c·W)∗x + c·b)    # c > 0 for each channel, f(c·y) = c·f(y): Relu, LeakyRelu, PRelu, MaxPool, …
    Q(D(Q(y))·c) → Q(y·c)              # codes that nobody else reads: what follows rounds to a scale of its own

The first is what the layer before does in cross-layer equalisation (Nagel et al., ICCV 2019, arXiv:1906.04721): a form
that scales its place's input writes a product of its own. The second rounds once less than the form was predicted to;
it is part of the program that is measured and proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import attribute_values, constant_tensor, new_constant, op_name
from ..rule import Skip
from .fold_scales import common_factor

HOMOGENEOUS = frozenset(["Relu", "LeakyRelu", "PRelu"])  # of their first input
POOLS = frozenset(["MaxPool", "AveragePool"])  # which mix no channels of a convolution
N_BITS = "com.microsoft::MatMulNBits"
LAYERS = {  # inputs that hold a number for each output: weight or its scale, and the bias
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "com.microsoft::FusedMatMul": (1,),
    N_BITS: (2, 5),
    "com.microsoft::DynamicQuantizeMatMul": (2, 4),
    "com.microsoft::MatMulIntegerToFloat": (3, 6),
}
COLUMNS = frozenset(["MatMul", "Gemm", "com.microsoft::FusedMatMul"])  # whose weight has outputs along its last axis
ROUNDS, DECODES = "QuantizeLinear", "DequantizeLinear"


def fold_into_layers(graph: ir.Graph, fresh: Callable[[str], str]) -> None:
    """Apply it in place, to every convolution and product of the graph."""
    for node in list(graph):
        if op_name(node) in LAYERS:
            _fold(graph, node, fresh)


def layer_before(value: ir.Value) -> ir.Node:
    """The convolution whose weights could take in a factor on the channels that one place reads.

    Raises:
        Skip: there is none, or others would see the factor.
    """
    while True:
        node = value.producer()
        if len(value.uses()) != 1 or value.is_graph_output():
            raise Skip("what it reads is read elsewhere too")
        if node is None:
            raise Skip("no convolution is before it")
        if node.op_type == "Conv":
            return node
        if node.op_type == "Clip":
            raise Skip("Clip is before it, which is not homogeneous: its bounds would cut elsewhere")
        source = node.inputs[0] if node.inputs else None
        if source is None or op_name(node) not in HOMOGENEOUS | POOLS:
            raise Skip(f"{node.op_type} is before it, which no factor goes through")
        value = source


@dataclass
class _Path:
    """From a layer to its last value: constants that are added on the way, codes that are read only here."""

    value: ir.Value
    through: frozenset[str]
    biases: list[tuple[ir.Node, int]] = field(default_factory=list[tuple[ir.Node, int]])
    codes: list[tuple[ir.Node, ir.Node]] = field(default_factory=list[tuple[ir.Node, ir.Node]])


def _fold(graph: ir.Graph, layer: ir.Node, fresh: Callable[[str], str]) -> None:
    through = HOMOGENEOUS | POOLS if layer.op_type == "Conv" else HOMOGENEOUS
    path, factor = _Path(layer.outputs[0], through), common_factor(graph, layer.outputs[0])
    while factor is None:
        if not _follow(graph, path):
            return
        factor = common_factor(graph, path.value)
    readers = [use.node for use in path.value.uses()]
    if not np.all(np.greater(factor, 0)) or not _fits(layer, factor):
        return
    if path.codes and not all(u.node.op_type == ROUNDS for r in readers for u in r.outputs[0].uses()):
        return
    operands = [(layer, i) for i in LAYERS[op_name(layer)] if i < len(layer.inputs) and layer.inputs[i] is not None]
    scaled = [_scaled(*operand, factor.reshape(-1)) for operand in (*operands, *path.biases)]
    if any(found is None for found in scaled):
        return
    for node, index, array in (found for found in scaled if found is not None):
        constant = new_constant(fresh(f"{node.name}/equalised"), array)
        graph.register_initializer(constant)
        node.replace_input_with(index, constant)
    for reader in readers:
        reader.outputs[0].replace_all_uses_with(path.value)
    for rounds, decodes in path.codes:
        assert rounds.inputs[0] is not None
        decodes.outputs[0].replace_all_uses_with(rounds.inputs[0])


def _follow(graph: ir.Graph, path: _Path) -> bool:
    """One step towards what reads the layer; False where the factor could not come back."""
    uses = list(path.value.uses())
    if len(uses) != 1 or path.value.is_graph_output() or uses[0].node.graph is not graph:
        return False
    node, index = uses[0].node, uses[0].idx
    if op_name(node) in path.through and index == 0 and not any(v.uses() for v in node.outputs[1:]):
        path.value = node.outputs[0]
        return True
    if op_name(node) == "Add":
        path.biases.append((node, 1 - index))
        path.value = node.outputs[0]
        return True
    decoded = [use.node for use in node.outputs[0].uses()] if op_name(node) == ROUNDS and index == 0 else []
    if len(decoded) != 1 or op_name(decoded[0]) != DECODES or node.outputs[0].is_graph_output():
        return False
    path.codes.append((node, decoded[0]))
    path.value = decoded[0].outputs[0]
    return True


def _fits(layer: ir.Node, factor: Array) -> bool:
    """Whether the factor has a number for each output, along the axis that the layer has them on."""
    if layer.op_type != "Conv":
        return factor.ndim == 1
    weight = layer.inputs[1]
    decodes = None if weight is None else weight.producer()
    weight = weight if decodes is None else decodes.inputs[0]
    tensor = None if weight is None else constant_tensor(weight)
    return tensor is not None and factor.shape == (factor.size, *[1] * (len(tensor.shape) - 2))


def _scaled(node: ir.Node, index: int, factor: Array) -> tuple[ir.Node, int, Array] | None:
    """Where a constant with a number for each output is, and what it becomes; None where it is computed.

    Behind codes it is their scale: D(q, s)·c = D(q, s·c), float(q)·u·c = float(q)·(u·c).
    """
    value, name = node.inputs[index], op_name(node)
    assert value is not None
    tensor, producer = constant_tensor(value), value.producer()
    if tensor is None:
        codes = name in LAYERS and producer is not None and len(value.uses()) == 1
        if not codes or producer is None or op_name(producer) != ("Mul" if name == N_BITS else DECODES):
            return None
        return _scaled(producer, 1, factor)
    array = tensor.numpy()
    axis = 1 if name in COLUMNS and index == 1 and not attribute_values(node).get("transB") else 0
    if tensor.dtype != ir.DataType.FLOAT or array.ndim <= axis or array.shape[axis] != len(factor):
        return None
    if (name == DECODES and attribute_values(node).get("axis", 1) != 0) or (
        name == "Add" and array.size != len(factor)
    ):
        return None
    shape = [1] * array.ndim
    shape[axis] = -1
    return node, index, np.multiply(array, factor.reshape(shape), dtype=np.float32)
