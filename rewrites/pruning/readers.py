"""What reads a group's units and sums over them, as a linear layer: y = rows·W + b."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array, Floats
from ...compiler.ir import attribute_values, constant_tensor, op_name
from ...compiler.rule import Skip
from ..convolution.geometry import geometry
from ..convolution.windows import windows
from .groups import Slice
from .layout import Indices
from .removal import Operand

MOST_FEATURES = 1536  # of a least-squares problem: its time grows with their cube


@dataclass(frozen=True)
class Reader:
    """A product or a convolution that reads the units of a group.

    Args:
        part: its weight's slice.
        weight: [features, outputs], float64; features of a convolution are (channel, *kernel).
        bias: the operand that is added, where a constant is.
        factor: what stands before the product, in units of what stands before the bias.
    """

    part: Slice
    weight: Floats
    bias: Operand | None
    factor: float

    @property
    def x(self) -> ir.Value:
        """Its input."""
        found = self.part.node.inputs[0]
        assert found is not None
        return found

    @property
    def spread(self) -> int:
        """Features for each element along the units' axis."""
        return len(self.weight) // self.part.layout.length

    def features(self, units: Indices) -> Indices:
        """Of these units."""
        elements = self.part.layout.indices(units)
        return (elements[:, None] * self.spread + np.arange(self.spread)).reshape(-1)

    def stored(self, weight: Floats) -> Array:
        """A weight [features, outputs] as the constant stores it."""
        tensor = constant_tensor(self.part.constant)
        assert tensor is not None
        array = weight.T if self._outputs_first else weight
        return np.ascontiguousarray(array.reshape(tuple(tensor.shape.numpy())), tensor.dtype.numpy())

    def shift_of(self, bias: Array) -> Floats:
        """What a bias adds to rows·W beyond the program's own."""
        return np.asarray(np.subtract(bias, self._bias, dtype=np.float64)) / self.factor

    def shifted(self, shift: Floats) -> Array:
        """The program's bias with that added to it, as it is stored."""
        return np.asarray(np.add(self._bias, self.factor * shift, dtype=np.float64), self._bias.dtype)

    @property
    def _bias(self) -> Array:
        assert self.bias is not None
        value = self.bias[0].inputs[self.bias[1]]
        tensor = None if value is None else constant_tensor(value)
        assert tensor is not None
        return tensor.numpy()

    def loaded(self, array: Array) -> Floats:
        """What `stored` made, [features, outputs] again."""
        found = np.asarray(array, np.float64)
        found = found.reshape(len(found), -1) if found.ndim > 2 else found
        return found.T if self._outputs_first else found

    def rows(self, x: Array, most: int) -> Floats:
        """At most so many of what the weight is multiplied with, [positions, features], float64."""
        if self.part.node.op_type in ("Conv", "FusedConv"):
            return patches(self.part.node, x, most)
        flat = x.reshape(-1, x.shape[-1])
        return np.asarray(flat[_chosen(len(flat), most)], np.float64)

    @property
    def _outputs_first(self) -> bool:
        return self.part.layout.axis == 1


def reader(part: Slice) -> Reader:
    """A sink as a linear layer.

    Raises:
        Skip: it is none, or too wide.
    """
    node, tensor = part.node, constant_tensor(part.constant)
    if tensor is None or part.index != 1 or node.op_type == "ConvTranspose":
        raise Skip("the units are not read by a product with a weight")
    array = np.asarray(tensor.numpy(), np.float64)
    if node.op_type in ("Conv", "FusedConv"):
        if str(attribute_values(node).get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
            raise Skip("the padding depends on the size")
        array = array.reshape(len(array), -1)
    weight = array.T if part.layout.axis == 1 else array
    if len(weight) > MOST_FEATURES:
        raise Skip(f"the weight has {len(weight)} rows")
    bias, factor = _bias(node, weight.shape[1])
    return Reader(part, weight, bias, factor)


def _bias(node: ir.Node, width: int) -> tuple[Operand | None, float]:
    attributes = attribute_values(node)
    product = float(attributes.get("alpha", 1.0))
    if node.op_type in ("MatMul", "FusedMatMul"):
        return _added(node, width), product
    beta = float(attributes.get("beta", 1.0))
    usable = len(node.inputs) > 2 and _is_vector(node.inputs[2], width) and beta != 0
    return ((node, 2) if usable else None), product / (beta or 1.0)


def _added(node: ir.Node, width: int) -> Operand | None:
    """The constant of the sum that alone reads a product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or op_name(uses[0].node) != "Add":
        return None
    index = 1 - uses[0].idx
    return (uses[0].node, index) if _is_vector(uses[0].node.inputs[index], width) else None


def _is_vector(value: ir.Value | None, width: int) -> bool:
    tensor = None if value is None else constant_tensor(value)
    return tensor is not None and tuple(tensor.shape.numpy()) == (width,)


def _chosen(count: int, most: int) -> Indices:
    """Positions at equal distances."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def patches(node: ir.Node, x: Array, most: int) -> Floats:
    """What a convolution's kernel sees at most so many positions, [positions, channels · kernel], float64."""
    tensor = None if node.inputs[1] is None else constant_tensor(node.inputs[1])
    assert tensor is not None
    found = geometry(attribute_values(node), tuple(int(d) for d in tensor.shape.numpy())[2:])
    view = windows(x, found)
    outer = view.shape[: 1 + len(found.kernel)]
    taken = view[np.unravel_index(_chosen(prod(outer), most), outer)]
    return np.asarray(taken.reshape(len(taken), -1), np.float64)
