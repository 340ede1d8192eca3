"""Operators that move elements about: reshapes, permutations, joins and repeats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation, is_recorded
from .registry import Unsupported, operator
from .values import Integers

if TYPE_CHECKING:
    from torch import Tensor


@operator("Identity")
def identity(op: Operation, x: Tensor) -> Tensor:
    """`x` itself."""
    return x


@operator("Shape", host=True)
def shape(op: Operation, x: Tensor) -> Tensor | Integers:
    """Sizes of the dimensions from `start` to `end`."""
    start, end = op.attribute("start", 0), op.attribute("end", 2**31)
    rank = op.rank(0)
    if rank is None:
        return op.call(shape_tensor, x, start, end)
    return Integers([x.size(axis) for axis in range(rank)[start:end]])


@operator("Size", host=True)
def size(op: Operation, x: Tensor) -> Integers:
    """Number of elements."""
    return Integers([x.numel()], scalar=True)


@operator("Reshape")
def reshape(op: Operation, x: Tensor, shape: Tensor | None = None) -> Tensor:
    """`x` in another shape; 0 stands for the input's own size unless `allowzero` is set."""
    sizes = op.numbers("shape") or [] if shape is None else op.sizes(1, shape)
    if is_recorded(sizes):
        return op.call(reshaped, x, sizes, bool(op.attribute("allowzero", 0)))
    if op.attribute("allowzero", 0):
        return torch.reshape(x, sizes)
    zero = [not is_recorded(item) and item == 0 for item in sizes]
    rank, axes = op.rank(0), len(sizes) - 1
    if (
        rank is not None
        and rank > axes
        and all(zero[:axes])
        and axes > 0
        and op.fixed(1) is not None
        and sizes[-1] == -1
    ):
        return torch.flatten(x, axes)
    if any(zero) and any(not is_recorded(item) and item == -1 for item in sizes):
        # torch refuses to infer -1 for a tensor without elements, ONNX only where it is ambiguous
        return op.call(inferred_reshape, x, [x.size(i) if zero[i] else item for i, item in enumerate(sizes)])
    return torch.reshape(x, [x.size(index) if zero[index] else item for index, item in enumerate(sizes)])


@operator("Flatten")
def flatten(op: Operation, x: Tensor) -> Tensor:
    """A matrix: the axes before `axis`, and those from it on."""
    axis, rank = op.attribute("axis", 1), op.rank(0)
    if axis == 1 and rank is not None and rank >= 2:
        return torch.flatten(x, 1)
    return op.call(flattened, x, axis)


@operator("Transpose")
def transpose(op: Operation, x: Tensor) -> Tensor:
    """Axes in another order, reversed by default."""
    order, rank = op.numbers("perm"), op.rank(0)
    if order is None and rank is None:
        return op.call(reversed_axes, x)
    return torch.permute(x, list(reversed(range(rank or 0))) if order is None else order)


@operator("Squeeze")
def squeeze(op: Operation, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without dimensions of size 1."""
    where = op.numbers("axes") if axes is None else op.sizes(1, axes)
    return torch.squeeze(x) if where is None else torch.squeeze(x, where)


@operator("Unsqueeze")
def unsqueeze(op: Operation, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """With dimensions of size 1 at `axes` of the result."""
    where, rank = op.numbers("axes") if axes is None else op.fixed(1), op.rank(0)
    if where is not None and len(where) == 1:
        return torch.unsqueeze(x, where[0])
    if where is None or (rank is None and min(where, default=0) < 0):
        return op.call(unsqueezed, x, op.sizes(1, axes) if axes is not None else where)
    total = len(where) + (rank or 0)
    for axis in sorted(axis + total if axis < 0 else axis for axis in where):
        x = torch.unsqueeze(x, axis)
    return x


@operator("Concat")
def concat(op: Operation, *tensors: Tensor) -> Tensor:
    """Tensors one after the other along an axis."""
    return torch.cat(tensors, op.attribute("axis", 1))


@operator("Split")
def split(op: Operation, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """Parts along an axis, of given sizes or equal."""
    axis, count = op.attribute("axis", 0), len(op.node.outputs)
    lengths = op.numbers("split") if sizes is None else op.sizes(1, sizes)
    parts = torch.chunk(x, count, axis) if lengths is None else torch.split(x, lengths, axis)
    return [parts[index] for index in range(count)]


@operator("Expand", creates=True)
def expand(op: Operation, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast with a shape, in both directions."""
    sizes, rank = op.fixed(1), op.rank(0)
    if sizes is None or rank is None:
        return op.call(expanded, x, op.sizes(1, shape))
    new = len(sizes) - rank
    kept = [-1 if size == 1 and axis >= new else size for axis, size in enumerate(sizes)]
    return x.expand([-1] * -new + kept)


@operator("Tile", creates=True)
def tile(op: Operation, x: Tensor, repeats: Tensor) -> Tensor:
    """Copies side by side."""
    if op.version < 6:
        raise Unsupported("Tile before opset 6 repeats one axis only")
    return torch.tile(x, op.sizes(1, repeats))


@operator("DepthToSpace")
def depth_to_space(op: Operation, x: Tensor) -> Tensor:
    """Channels to blocks of pixels."""
    block = op.required("blocksize")
    if op.attribute("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    n, c, h, w = (x.size(axis) for axis in range(4))
    blocks = torch.reshape(x, [n, block, block, c // block**2, h, w])
    return torch.reshape(torch.permute(blocks, [0, 3, 4, 1, 5, 2]), [n, c // block**2, h * block, w * block])


@operator("SpaceToDepth")
def space_to_depth(op: Operation, x: Tensor) -> Tensor:
    """Blocks of pixels to channels."""
    block = op.required("blocksize")
    n, c, h, w = (x.size(axis) for axis in range(4))
    blocks = torch.reshape(x, [n, c, h // block, block, w // block, block])
    order = [0, 1, 3, 5, 2, 4] if op.attribute("mode", "DCR") == "CRD" else [0, 3, 5, 1, 2, 4]
    return torch.reshape(torch.permute(blocks, order), [n, c * block**2, h // block, w // block])


@operator("Trilu")
def trilu(op: Operation, x: Tensor, k: Tensor | None = None) -> Tensor:
    """Upper or lower triangle."""
    diagonal = 0 if k is None else op.number(1)
    function = torch.triu if op.attribute("upper", 1) else torch.tril
    return function(x, op.call(int, k) if diagonal is None else int(diagonal))


@operator("ReverseSequence")
def reverse_sequence(op: Operation, x: Tensor, lengths: Tensor) -> Tensor:
    """The first elements of each sequence in reverse order."""
    return op.call(sequences_reversed, x, lengths, op.attribute("time_axis", 0), op.attribute("batch_axis", 1))


def shape_tensor(x: Tensor, start: int = 0, end: int = 2**31) -> Tensor:
    """The shape as a tensor on the CPU."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def reshaped(x: Tensor, sizes: list[int], allow_zero: bool) -> Tensor:
    """`x` in a shape that is known only when the program runs."""
    if not allow_zero:
        sizes = [x.shape[index] if size == 0 else size for index, size in enumerate(sizes)]
    return inferred_reshape(x, sizes)


def inferred_reshape(x: Tensor, sizes: list[int]) -> Tensor:
    """`x` in a shape in which -1 may stand beside 0."""
    if -1 in sizes and 0 in sizes:
        rest = math.prod(size for size in sizes if size not in (-1, 0))
        have = math.prod(size for size in x.shape if size != 0)
        sizes = [have // max(rest, 1) if size == -1 else size for size in sizes]
    return x.reshape(sizes)


def flattened(x: Tensor, axis: int) -> Tensor:
    """A matrix: the axes before `axis`, and those from it on."""
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def reversed_axes(x: Tensor) -> Tensor:
    """The axes in reverse order."""
    return x.permute(list(reversed(range(x.dim()))))


def unsqueezed(x: Tensor, axes: list[int]) -> Tensor:
    """With dimensions of size 1 at `axes` of the result."""
    total = x.dim() + len(axes)
    for axis in sorted((axis + total) % total for axis in axes):
        x = x.unsqueeze(axis)
    return x


def expanded(x: Tensor, sizes: list[int]) -> Tensor:
    """Broadcast with a shape, in both directions."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes)))


def sequences_reversed(x: Tensor, lengths: Tensor, time_axis: int, batch_axis: int) -> Tensor:
    """The first `lengths[b]` elements of sequence `b` in reverse order."""
    steps = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(1)
    lengths = lengths.to(x.device).unsqueeze(0)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)  # (time, batch)
    source = source if time_axis < batch_axis else source.t()
    view = [x.shape[axis] if axis in (time_axis, batch_axis) else 1 for axis in range(x.dim())]
    return torch.gather(x, time_axis, source.reshape(view).expand(x.shape))
