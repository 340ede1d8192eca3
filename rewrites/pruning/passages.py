"""What each operator does with channels that enter or leave it: a passage says where else they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import onnx_ir as ir

from ...compiler.ir import attribute_values, bodies, op_name
from ...compiler.rule import Skip
from .layout import Layout
from .operands import Part, operand, opposite, other_outputs_unused, rank, shape
from .passages_of_attention import PASSAGES as ATTENTION
from .passages_of_products import PASSAGES as PRODUCTS
from .passages_of_shapes import PASSAGES as SHAPES

Passage = Callable[[ir.Node, ir.Value, Layout], Iterator[Part]]

_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip
    Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink
    Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
    com.microsoft::BiasGelu com.microsoft::FastGelu com.microsoft::Gelu com.microsoft::QuickGelu
"""


def passage(node: ir.Node, value: ir.Value, layout: Layout) -> list[Part]:
    """Where else the channels lie that a value brings to a node.

    Args:
        node: makes the value or reads it.
        value: one of its operands or outputs.
        layout: of the channels in it.

    Raises:
        Skip: the operator does not keep them apart, or it is not known whether it does.
    """
    found = _PASSAGES.get(op_name(node))
    if found is None or bodies(node) or any(a.is_ref() for a in node.attributes.values()):
        raise Skip(f"{op_name(node)} is not known to keep channels apart")
    return list(found(node, value, layout))


def _elementwise(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[…c…] = f(a[…c…], b[…c…], …), broadcast from the right."""
    from_right = rank(value) - layout.axis
    output = node.outputs[0]
    if value is not output:
        yield output, layout.at(rank(output) - from_right)
    for index, other in enumerate(node.inputs):
        if other is None or other is value:
            continue
        axis = rank(other) - from_right
        if axis >= 0 and shape(other)[axis] != 1:
            yield operand(node, index, layout.at(axis))


def _batch_normalization(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[:, c] = a[c]·x[:, c] + b[c]."""
    if attribute_values(node).get("training_mode"):
        raise Skip("the BatchNormalization is in training")
    other_outputs_unused(node)
    yield opposite(node, value), layout
    if layout.axis == 1:
        yield from (operand(node, index, layout.at(0)) for index in range(1, 5))


def _instance_normalization(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[n, c] = a[c]·(x[n, c] − mean)/deviation + b[c], both over the positions of the channel."""
    if layout.axis > 1:
        raise Skip("the InstanceNormalization averages over the channels")
    yield opposite(node, value), layout
    if layout.axis == 1:
        yield from (operand(node, index, layout.at(0)) for index in (1, 2))


def _normalised_after(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """A norm over the last axes keeps those before apart."""
    other_outputs_unused(node)
    other = opposite(node, value)
    first = int(attribute_values(node).get("axis", -1)) % rank(value)
    if layout.axis >= first:
        raise Skip(f"{op_name(node)} averages over the channels")
    if any(v is not None and rank(v) > rank(value) - first for v in node.inputs[1:]):
        raise Skip(f"the scale of {op_name(node)} may differ between the channels")
    yield other, layout


def _normalised_along(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """A softmax along one axis keeps the others apart."""
    other = opposite(node, value)
    if int(attribute_values(node).get("axis", -1)) % rank(value) == layout.axis:
        raise Skip(f"{op_name(node)} sums over the channels")
    yield other, layout


def _pool(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """A window over positions; one of a single element along an axis keeps that axis as it is."""
    other_outputs_unused(node)
    if layout.axis > 1:
        _one_by_one(node, layout.axis - 2, rank(value) - 2)
    yield opposite(node, value), layout


def _one_by_one(node: ir.Node, position: int, spatial: int) -> None:
    attributes = attribute_values(node)
    size = attributes.get("kernel_shape", (2,) * spatial)[position]
    step = attributes.get("strides", (1,) * spatial)[position]
    pads = attributes.get("pads", (0,) * (2 * spatial))
    same = str(attributes.get("auto_pad", "NOTSET")) in ("NOTSET", "VALID")
    if (size, step, pads[position], pads[position + spatial], same) != (1, 1, 0, 0, True):
        raise Skip(f"{op_name(node)} takes channels together")


def _global_pool(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """One number for each channel."""
    if layout.axis > 1:
        raise Skip(f"{op_name(node)} takes channels together")
    yield opposite(node, value), layout


_PASSAGES: Mapping[str, Passage] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _normalised_along),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalised_after),
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    **PRODUCTS,
    **SHAPES,
    **ATTENTION,
}
