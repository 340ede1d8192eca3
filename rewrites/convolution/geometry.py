"""The geometry of a convolution: kernel, strides, dilations and paddings as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...compiler.rule import Skip, Value


@dataclass(frozen=True)
class Geometry:
    """What a window does along the spatial axes.

    Args:
        kernel: its size.
        strides: how far it moves.
        dilations: distance of its elements.
        begin: zeros before each axis.
        end: zeros after each axis.
        group: how many independent convolutions there are.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    group: int

    @property
    def padded(self) -> bool:
        """Whether zeros surround the input."""
        return any(self.begin) or any(self.end)

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads one input position: a 1x1 kernel without padding."""
        return all(k == 1 for k in self.kernel) and not self.padded

    @property
    def dense(self) -> bool:
        """Whether every position is read: all strides are 1."""
        return all(s == 1 for s in self.strides)

    def attributes(self) -> dict[str, Any]:
        """As ONNX states it."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begin, *self.end),
            "group": self.group,
        }

    def with_pads(self, begin: tuple[int, ...], end: tuple[int, ...]) -> Geometry:
        """The same window on an input with other padding."""
        return replace(self, begin=begin, end=end)


def geometry(attributes: Mapping[str, Any], kernel: tuple[int, ...] | None = None) -> Geometry:
    """The geometry that stated attributes mean.

    Args:
        attributes: of Conv, ConvTranspose, MaxPool, AveragePool; those stated.
        kernel: where `kernel_shape` is not stated.

    Raises:
        Skip: the padding depends on the input's size (auto_pad), or the kernel is not known.
    """
    kernel = tuple(attributes.get("kernel_shape") or kernel or ())
    rank = len(kernel)
    if not rank:
        raise Skip("the kernel's size is not known")
    padding = attributes.get("auto_pad", "NOTSET")
    if padding not in ("NOTSET", "VALID"):
        raise Skip("the padding depends on the input's size")
    pads = tuple(attributes.get("pads") or ()) if padding == "NOTSET" else ()
    pads = pads or (0,) * (2 * rank)
    return Geometry(
        kernel=kernel,
        strides=tuple(attributes.get("strides") or (1,) * rank),
        dilations=tuple(attributes.get("dilations") or (1,) * rank),
        begin=pads[:rank],
        end=pads[rank:],
        group=int(attributes.get("group", 1)),
    )


def of_convolution(w: Value, attributes: Mapping[str, Any]) -> Geometry:
    """The geometry of a convolution with a weight of known shape.

    Raises:
        Skip: the weight's shape is not known, or the padding depends on the input's size.
    """
    return geometry(attributes, w.static_shape[2:])
