"""What retraining may move in a written program: scales and shifts of normalisations, and biases.

Weights stay as the choice left them: in codes, in factors, narrower. A bias in codes is trained as the number that it
stands for, and rounded to its codes again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import constant_tensor, new_constant, op_name
from .fold_scales import AFFINE

NORMS = {
    **AFFINE,
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}
BIASES = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "com.microsoft::MatMulNBits": 5,
    "com.microsoft::DynamicQuantizeMatMul": 4,
    "com.microsoft::MatMulIntegerToFloat": 6,
    "com.microsoft::SkipLayerNormalization": 4,
    "com.microsoft::SkipSimplifiedLayerNormalization": 3,
}
PRODUCTS = frozenset([*BIASES, "MatMul", "com.microsoft::FusedMatMul"])
DECODES = "DequantizeLinear"


@dataclass(frozen=True)
class Trainable:
    """A constant of a program, as the copy that is trained has it.

    Args:
        name: in the copy.
        stored: the initializer of the program itself.
        steps: what its codes are multiplied by; None: it holds the numbers themselves.
    """

    name: str
    stored: str
    steps: Array | None = None

    def contents(self, values: Array) -> Array:
        """What the program's initializer holds for these numbers."""
        if self.steps is None:
            return values.astype(np.float32)
        codes = np.round(np.divide(values, self.steps, dtype=np.float64))
        return np.clip(codes, -(2**31) + 1, 2**31 - 1).astype(np.int32)


def trainable(model: ir.Model) -> tuple[ir.Model, list[Trainable]]:
    """A copy of a program with biases in numbers, and the constants of its main graph that may be trained."""
    copy = model.clone()
    roles = [(node, index) for node in copy.graph for index in _roles(node)]
    found: dict[str, Trainable] = {}
    for node, index in roles:
        value = node.inputs[index]
        assert value is not None
        if any((use.node, use.idx) not in roles for use in value.uses()):
            continue
        constant = _constant(copy.graph, value)
        if constant is not None:
            found[constant.name] = constant
    return copy, list(found.values())


def _roles(node: ir.Node) -> list[int]:
    """Inputs of a node that are a scale, a shift or a bias."""
    name = op_name(node)
    if name == "Add":
        return [i for i, v in enumerate(node.inputs) if v is not None and _is_bias(v, node.inputs[1 - i])]
    wanted = [*NORMS.get(name, ()), *([BIASES[name]] if name in BIASES else [])]
    return [i for i in wanted if i < len(node.inputs) and node.inputs[i] is not None]


def _is_bias(value: ir.Value, other: ir.Value | None) -> bool:
    """Whether it is a constant with one axis, added to a product, or to one times the steps of its rows."""
    tensor, producer = constant_tensor(value), None if other is None else other.producer()
    if tensor is None or producer is None or sorted(tensor.shape.numpy())[:-1].count(1) != len(tensor.shape) - 1:
        return False
    if op_name(producer) == "Mul":
        sources = [None if v is None else v.producer() for v in producer.inputs]
        return any(source is not None and op_name(source) in PRODUCTS for source in sources)
    return op_name(producer) in PRODUCTS


def _constant(graph: ir.Graph, value: ir.Value) -> Trainable | None:
    tensor, producer = constant_tensor(value), value.producer()
    if tensor is not None:
        name = value.name or ""
        return Trainable(name, name) if tensor.dtype == ir.DataType.FLOAT and name in graph.initializers else None
    if producer is None or op_name(producer) != DECODES or producer.inputs[0] is None or producer.inputs[1] is None:
        return None
    codes, scale = constant_tensor(producer.inputs[0]), constant_tensor(producer.inputs[1])
    if codes is None or scale is None or codes.dtype != ir.DataType.INT32 or len(producer.inputs[0].uses()) != 1:
        return None
    steps = scale.numpy()
    numbers = np.multiply(codes.numpy(), steps, dtype=np.float64).astype(np.float32)
    name = f"{producer.inputs[0].name}/numbers"
    constant = new_constant(name, numbers)
    graph.register_initializer(constant)
    value.replace_all_uses_with(constant)
    return Trainable(name, producer.inputs[0].name or "", steps)
