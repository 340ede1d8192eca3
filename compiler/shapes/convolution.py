"""Convolutions and pools: windows over the axes behind batch and channel."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from ..facts import Contradiction, Dim, Shape
from .call import Call, Known, Rule, agree


@dataclass(frozen=True)
class Window:
    """One axis of a sliding window."""

    size: int
    stride: int
    dilation: int
    begin: int
    end: int
    auto: str
    ceil: bool = False

    @property
    def span(self) -> int:
        """Entries from the window's first to its last."""
        return self.dilation * (self.size - 1) + 1

    def slide(self, dim: Dim) -> Dim:
        """How often the window fits, from the first entry (padding included) to the last.

        Raises:
            Contradiction: the window is larger than the padded axis.
        """
        if self.auto in ("SAME_UPPER", "SAME_LOWER"):
            return dim if self.stride == 1 else -(-dim // self.stride) if isinstance(dim, int) else None
        padding = 0 if self.auto == "VALID" else self.begin + self.end
        if not isinstance(dim, int):
            return dim if self.stride == 1 and padding == self.span - 1 else None
        room = dim + padding - self.span
        count = -(-room // self.stride) + 1 if self.ceil else room // self.stride + 1
        if count < 1:
            raise Contradiction(f"a window of {self.span} over {dim + padding} entries")
        # A last window that begins behind the data, in the padding, is left out.
        return count - 1 if self.ceil and (count - 1) * self.stride >= dim + self.begin else count


def windows(call: Call, sizes: tuple[int, ...]) -> list[Window]:
    """The window's axes, from the usual attributes."""
    rank = len(sizes)
    strides = call.attributes.get("strides") or (1,) * rank
    dilations = call.attributes.get("dilations") or (1,) * rank
    pads = call.attributes.get("pads") or (0,) * (2 * rank)
    auto = call.attributes.get("auto_pad", "NOTSET")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise Contradiction(f"strides, dilations or pads do not fit a window of {rank} axes")
    ceil = bool(call.attributes.get("ceil_mode", 0))
    return [Window(size, strides[i], dilations[i], pads[i], pads[i + rank], auto, ceil) for i, size in enumerate(sizes)]


def slid(call: Call, data: Shape, sizes: tuple[int, ...]) -> tuple[Dim, ...]:
    """The spatial dimensions of a window operator's result."""
    if len(data) != len(sizes) + 2:
        raise Contradiction(f"a window of {len(sizes)} axes over rank {len(data)}")
    return tuple(w.slide(d) for w, d in zip(windows(call, sizes), data[2:], strict=True))


def _sizes(call: Call, weight: Shape | None) -> tuple[int, ...] | None:
    stated = call.attributes.get("kernel_shape")
    if stated:
        return tuple(stated)
    if weight is None or not all(isinstance(d, int) for d in weight[2:]):
        return None
    return tuple(d for d in weight[2:] if isinstance(d, int))


def conv_shape(call: Call, data: Shape | None, weight: Shape | None) -> Shape | None:
    """The result of a convolution: (batch, output channels, spatial dimensions…).

    Raises:
        Contradiction: the weight does not fit the data.
    """
    if data is None:
        return None if weight is None else (None, weight[0], *(None for _ in weight[2:]))
    sizes = _sizes(call, weight)
    if weight is not None:
        if len(weight) != len(data):
            raise Contradiction(f"weights of rank {len(weight)} on data of rank {len(data)}")
        group = int(call.attributes.get("group", 1))
        if isinstance(weight[1], int):
            agree(data[1], weight[1] * group, "channels of a convolution")
    channels = None if weight is None else weight[0]
    if sizes is None:
        return (data[0], channels, *(None for _ in data[2:]))
    return (data[0], channels, *slid(call, data, sizes))


def _conv(call: Call) -> list[Known]:
    return [(call.dtype(), conv_shape(call, call.shape(0), call.shape(1)))]


def _conv_integer(call: Call) -> list[Known]:
    return [(TensorProto.INT32, conv_shape(call, call.shape(0), call.shape(1)))]


def _conv_transpose(call: Call) -> list[Known]:
    data, weight = call.shape(0), call.shape(1)
    sizes = _sizes(call, weight)
    if data is None or weight is None or sizes is None:
        return [(call.dtype(), None if data is None else (data[0], *(None for _ in data[1:])))]
    if len(data) != len(sizes) + 2 or len(weight) != len(data):
        raise Contradiction("the weight's rank does not fit the data's")
    agree(data[1], weight[0], "channels of a transposed convolution")
    group = int(call.attributes.get("group", 1))
    channels = weight[1] * group if isinstance(weight[1], int) else None
    stated = call.attributes.get("output_shape")
    if stated:
        return [(call.dtype(), (data[0], channels, *stated[-len(sizes) :]))]
    more = call.attributes.get("output_padding") or (0,) * len(sizes)
    spatial = [_unslid(w, d, more[i]) for i, (w, d) in enumerate(zip(windows(call, sizes), data[2:], strict=True))]
    return [(call.dtype(), (data[0], channels, *spatial))]


def _unslid(window: Window, dim: Dim, more: int) -> Dim:
    if not isinstance(dim, int):
        return None
    if window.auto in ("SAME_UPPER", "SAME_LOWER"):
        return dim * window.stride
    padding = 0 if window.auto == "VALID" else window.begin + window.end
    return window.stride * (dim - 1) + more + window.span - padding


def _pool(call: Call) -> list[Known]:
    data = call.shape()
    shape = None if data is None else (*data[:2], *slid(call, data, tuple(call.attributes["kernel_shape"])))
    return [(call.dtype(), shape), (TensorProto.INT64, shape)]


def _global_pool(call: Call) -> list[Known]:
    data = call.shape()
    return [(call.dtype(), None if data is None else (*data[:2], *(1 for _ in data[2:])))]


RULES: dict[str, Rule] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_pool,
    "GlobalLpPool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "LpPool": _pool,
    "MaxPool": _pool,
}
