"""Convolutions and transposed convolutions of any rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


class Spec(NamedTuple):
    """A convolution's attributes; `None` stands for a default whose length is the rank."""

    strides: list[int] | None
    dilations: list[int] | None
    pads: list[int] | None
    group: int
    auto: str
    extra: list[int] | None = None
    shape: list[int] | None = None

    def of_rank(self, rank: int) -> tuple[list[int], list[int], list[int]]:
        """Strides, dilations and explicit pads, for so many spatial axes."""
        pads = None if self.auto == "VALID" else self.pads
        return self.strides or [1] * rank, self.dilations or [1] * rank, pads or [0] * (2 * rank)


@operator("Conv")
def conv(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution; padding that differs between the two ends is added first."""
    return convolution(op, x, weight, bias)


@operator("ConvTranspose")
def conv_transpose(op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution; what the two ends do not share of the padding is cropped afterwards."""
    spec = attributes(op)
    rank = spatial_rank(op, spec)
    if rank is None or spec.shape is not None or spec.auto.startswith("SAME"):
        return op.call(transposed_of_any_rank, x, weight, bias, tuple(spec))
    return transposed(x, weight, bias, rank, spec)


def convolution(
    op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None, *, input_index: int = 0, weight_index: int = 1
) -> Tensor:
    """Convolution with the node's attributes."""
    spec = explicit(op, attributes(op), input_index, weight_index)
    rank = spatial_rank(op, spec, input_index, weight_index)
    if rank is None or spec.auto.startswith("SAME"):
        return op.call(convolved_of_any_rank, x, weight, bias, tuple(spec))
    return convolved(x, weight, bias, rank, spec)


def attributes(op: Operation) -> Spec:
    """The attributes of a convolution node."""
    return Spec(
        op.numbers("strides"),
        op.numbers("dilations"),
        op.numbers("pads"),
        op.attribute("group", 1),
        op.attribute("auto_pad", "NOTSET"),
        op.numbers("output_padding"),
        op.numbers("output_shape"),
    )


def explicit(op: Operation, spec: Spec, input_index: int, weight_index: int) -> Spec:
    """`SAME` padding as numbers, where sizes are known or (for a stride of 1) do not matter."""
    window = known_sizes(op, weight_index)
    if not spec.auto.startswith("SAME") or window is None or None in window:
        return spec
    kernel = [size or 0 for size in window]
    strides, dilations, _ = spec.of_rank(len(kernel))
    pads = same_pads_now(known_sizes(op, input_index), kernel, strides, dilations, spec.auto == "SAME_LOWER")
    return spec if pads is None else spec._replace(pads=pads, auto="NOTSET")


def known_sizes(op: Operation, index: int) -> list[int | None] | None:
    """Sizes of an input after the first two axes, as far as the model declares them."""
    value = op.node.inputs[index]
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else None for size in value.shape.dims[2:]]


def same_pads_now(
    sizes: list[int | None] | None, window: list[int], strides: list[int], dilations: list[int], lower: bool
) -> list[int] | None:
    """ONNX's pads for `SAME` padding, when they can be told now."""
    if sizes is not None and len(sizes) != len(window):
        return None
    # for a stride of 1 any size that the window fits into gives the same padding
    known = [1 if stride == 1 else (None if sizes is None else sizes[axis]) for axis, stride in enumerate(strides)]
    if None in known:
        return None
    pairs = same_pads([size or 0 for size in known], window, strides, dilations, lower)
    return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]


def spatial_rank(op: Operation, spec: Spec, input_index: int = 0, weight_index: int = 1) -> int | None:
    """Number of axes after batch and channels, where known."""
    for index in (weight_index, input_index):
        rank = op.rank(index)
        if rank is not None:
            return rank - 2
    listed = op.numbers("kernel_shape") or spec.strides or spec.dilations
    return None if listed is None else len(listed)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, rank: int, spec: Spec) -> Tensor:
    """Convolution with explicit padding."""
    strides, dilations, pads = spec.of_rank(rank)
    shared = pads[:rank]
    if pads[:rank] != pads[rank:] or min(pads, default=0) < 0:
        x, shared = functional.pad(x, torch_pads(pads)), [0] * rank
    if rank not in _CONVOLUTIONS:
        return torch.convolution(x, weight, bias, strides, shared, dilations, False, [0] * rank, spec.group)
    return _CONVOLUTIONS[rank](x, weight, bias, strides, shared, dilations, spec.group)


def convolved_of_any_rank(x: Tensor, weight: Tensor, bias: Tensor | None, fields: tuple[Any, ...]) -> Tensor:
    """Convolution whose rank, or automatic padding, is known only when the program runs."""
    spec, rank = Spec(*fields), x.dim() - 2
    if spec.auto.startswith("SAME"):
        strides, dilations, _ = spec.of_rank(rank)
        pairs = same_pads(list(x.shape[2:]), list(weight.shape[2:]), strides, dilations, spec.auto == "SAME_LOWER")
        spec = spec._replace(pads=[pair[0] for pair in pairs] + [pair[1] for pair in pairs])
    return convolved(x, weight, bias, rank, spec)


def transposed(x: Tensor, weight: Tensor, bias: Tensor | None, rank: int, spec: Spec) -> Tensor:
    """Transposed convolution with explicit padding."""
    strides, dilations, pads = spec.of_rank(rank)
    extra = spec.extra or [0] * rank
    shared = [max(0, min(pads[axis], pads[axis + rank])) for axis in range(rank)]
    # torch refuses an output padding that reaches beyond stride and dilation
    plain = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    inside = extra if plain else [0] * rank
    change = [
        (shared[axis] - pads[axis], shared[axis] - pads[axis + rank] + extra[axis] - inside[axis])
        for axis in range(rank)
    ]
    same = all(pair == (0, 0) for pair in change)
    grows = any(amount > 0 for pair in change for amount in pair)
    result = _TRANSPOSED[rank](x, weight, None if grows else bias, strides, shared, inside, spec.group, dilations)
    if not same:
        result = functional.pad(result, [amount for pair in reversed(change) for amount in pair])
    return torch.add(result, torch.reshape(bias, [-1] + [1] * rank)) if grows and bias is not None else result


def transposed_of_any_rank(x: Tensor, weight: Tensor, bias: Tensor | None, fields: tuple[Any, ...]) -> Tensor:
    """Transposed convolution whose rank, or padding for a given output size, is known only when the program runs."""
    spec, rank = Spec(*fields), x.dim() - 2
    if spec.shape is None and not spec.auto.startswith("SAME"):
        return transposed(x, weight, bias, rank, spec)
    strides, dilations, _ = spec.of_rank(rank)
    extra, pads = spec.extra or [0] * rank, [0] * (2 * rank)
    sizes = [x.shape[axis + 2] * strides[axis] for axis in range(rank)] if spec.shape is None else spec.shape[-rank:]
    for axis in range(rank):
        window = (weight.shape[axis + 2] - 1) * dilations[axis] + 1
        total = (x.shape[axis + 2] - 1) * strides[axis] + extra[axis] + window - sizes[axis]
        start = max(total, 0) // 2 if spec.auto == "SAME_UPPER" else -(-max(total, 0) // 2)
        pads[axis], pads[axis + rank] = start, total - start
    return transposed(x, weight, bias, rank, spec._replace(pads=pads, auto="NOTSET"))


def torch_pads(pads: list[int]) -> list[int]:
    """ONNX's pads (all starts, then all ends) in the order of `torch.nn.functional.pad`."""
    rank = len(pads) // 2
    return [amount for axis in reversed(range(rank)) for amount in (pads[axis], pads[axis + rank])]


def same_pads(
    sizes: list[int], window: list[int], strides: list[int], dilations: list[int], lower: bool
) -> list[tuple[int, int]]:
    """Padding for an output of ⌈size / stride⌉ along each axis; the odd element goes to the end, or to the start."""
    pairs: list[tuple[int, int]] = []
    for size, k, s, d in zip(sizes, window, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pairs.append((large, small) if lower else (small, large))
    return pairs
