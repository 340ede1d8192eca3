"""Weights of convolutions times numbers per channel, as constant terms."""

from __future__ import annotations

from ...compiler.facts import Dim
from ...compiler.rule import Skip, Term, Value, op
from ..linear.operands import ints, require_constant


def output_channels(w: Value) -> int:
    """How many channels Conv writes.

    Raises:
        Skip: the weight's shape is not known.
    """
    if w.rank < 3:
        raise Skip("the weight is not that of a convolution")
    return w.static_shape[0]


def transposed_output_channels(w: Value, group: int) -> int:
    """How many channels ConvTranspose writes.

    Raises:
        Skip: the weight's shape is not known.
    """
    if w.rank < 3:
        raise Skip("the weight is not that of a convolution")
    return w.static_shape[1] * group


def input_channels(w: Value, group: int) -> int:
    """How many channels Conv reads.

    Raises:
        Skip: the weight's shape is not known.
    """
    return output_channels(w) and w.static_shape[1] * group


def channel_dims(w: Value, channels: int) -> tuple[Dim, ...]:
    """The shape of a convolution's result as far as a number per channel needs it."""
    return (None, channels, *(None,) * (w.rank - 2))


def by_output(w: Value, vector: Term) -> Term:
    """A number per output channel of Conv, shaped to meet its weight [O, I/g, k…]."""
    require_constant(w, "the weight")
    return op.Reshape(vector, ints(-1, *(1,) * (w.rank - 1)))


def by_input(w: Value, vector: Term, group: int) -> tuple[Term, Term]:
    """Conv's weight and a number per input channel, shaped to meet: [g, O/g, I/g, k…] and [g, 1, I/g, 1…]."""
    require_constant(w, "the weight")
    outputs, inputs, *kernel = w.static_shape
    ones = (1,) * len(kernel)
    weight = w if group == 1 else op.Reshape(w, ints(group, outputs // group, inputs, *kernel))
    shape = ints(1, inputs, *ones) if group == 1 else ints(group, 1, inputs, *ones)
    return weight, op.Reshape(vector, shape)


def by_transposed_output(w: Value, vector: Term, group: int) -> tuple[Term, Term]:
    """ConvTranspose's weight and a number per output channel: [g, I/g, O/g, k…] and [g, 1, O/g, 1…]."""
    require_constant(w, "the weight")
    inputs, outputs, *kernel = w.static_shape
    ones = (1,) * len(kernel)
    weight = w if group == 1 else op.Reshape(w, ints(group, inputs // group, outputs, *kernel))
    shape = ints(1, outputs, *ones) if group == 1 else ints(group, 1, outputs, *ones)
    return weight, op.Reshape(vector, shape)


def restored(weight: Term, w: Value, group: int) -> Term:
    """The weight in its own shape again."""
    return weight if group == 1 else op.Reshape(weight, ints(*w.static_shape))
