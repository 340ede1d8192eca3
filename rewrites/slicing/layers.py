"""Linear layers, and the normalisations between them, as the residual stream meets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Floats
from ...compiler.ir import attribute_values, constant_tensor, dims, op_name

RMS = ("RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft::SimplifiedLayerNormalization")
FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Layer:
    """y = α·x·W + β·C with a constant W; C may be missing, constant, or computed.

    Args:
        node: MatMul, FusedMatMul, Gemm, or a Conv that has one group.
        weight: position of W among the operands.
        rows: which axis of W as stored belongs to the inputs.
        alpha: factor on the product.
        beta: factor on C.
    """

    node: ir.Node
    weight: int
    rows: int
    alpha: float = 1.0
    beta: float = 1.0

    @property
    def addend(self) -> ir.Value | None:
        """C."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def output_axis(self) -> int:
        """Where the outputs lie in y, from the end."""
        weight = self.node.inputs[self.weight]
        assert weight is not None
        assert weight.shape is not None
        return 1 - len(weight.shape) if self.is_convolution else -1

    @property
    def is_convolution(self) -> bool:
        """Whether it is a Conv."""
        return self.node.op_type == "Conv"


def layer_of(node: ir.Node) -> Layer | None:
    """The node as a linear layer with a constant weight, if it is one."""
    attributes = attribute_values(node)
    if len(node.inputs) < 2 or any(attributes.get(k) for k in ("transA", "transBatchA", "transBatchB")):
        return None
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    match op_name(node):
        case "MatMul" | "com.microsoft::FusedMatMul" | "Gemm" if is_weight(node.inputs[1], 2):
            return Layer(node, 1, 1 if attributes.get("transB") else 0, alpha, beta)
        case "Conv" if attributes.get("group", 1) == 1 and is_weight(node.inputs[1], None):
            return Layer(node, 1, 1)
        case _:
            return None


@dataclass(frozen=True)
class Norm:
    """y = x/√(mean(x²) + ε)·g + h over the last axis; of x − mean(x) where it is centred."""

    node: ir.Node
    scale: Floats
    shift: Floats
    centred: bool
    epsilon: float

    @property
    def x(self) -> ir.Value:
        """What is normalised."""
        value = self.node.inputs[0]
        assert value is not None
        return value


def norm_of(node: ir.Node) -> Norm | None:
    """The node as a normalisation of the last axis with constant scale and shift, if it is one."""
    name = op_name(node)
    if name not in (*RMS, "LayerNormalization") or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    x, attributes = node.inputs[0], attribute_values(node)
    shape = None if x is None else dims(x)
    if not shape or not isinstance(shape[-1], int) or attributes.get("axis", -1) not in (-1, len(shape) - 1):
        return None
    scale = vector(node.inputs[1], shape[-1])
    shift = vector(node.inputs[2], shape[-1]) if len(node.inputs) > 2 else np.zeros(shape[-1])
    if scale is None or shift is None:
        return None
    return Norm(node, scale, shift, name == "LayerNormalization", float(attributes.get("epsilon", 1e-5)))


def vector(value: ir.Value | None, width: int) -> Floats | None:
    """A constant with one number for each feature, or one for all, as [width] in float64; zeros for None."""
    if value is None:
        return np.zeros(width)
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype != FLOAT or tensor.size not in (1, width):
        return None
    if tensor.size == width and width > 1 and int(tensor.shape.numpy()[-1]) != width:
        return None
    return np.broadcast_to(tensor.numpy().astype(np.float64).reshape(-1), (width,))


def is_weight(value: ir.Value | None, rank: int | None) -> bool:
    """Whether it is a constant float32 tensor of that rank."""
    tensor = None if value is None else constant_tensor(value)
    return tensor is not None and tensor.dtype == FLOAT and rank in (None, len(tensor.shape))


def contents(value: ir.Value | None) -> Floats:
    """What a constant holds, in float64."""
    tensor = None if value is None else constant_tensor(value)
    assert tensor is not None
    return np.asarray(tensor.numpy(), np.float64)
