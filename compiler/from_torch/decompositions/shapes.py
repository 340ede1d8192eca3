"""Squeezing and scattering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import SymInt

aten = torch.ops.aten


def squeeze(self: Tensor) -> Any:
    """Away with every dimension of size 1; ONNX would decide anew with every input."""
    return squeeze_dims(self, range(self.dim()))


def squeeze_dim(self: Tensor, dim: int) -> Any:
    """Nothing where the dimension is not of size 1."""
    return self if self.dim() and not _is_one(self.shape[dim]) else NotImplemented


def squeeze_dims(self: Tensor, dim: Sequence[int]) -> Any:
    """Those of the dimensions that are of size 1."""
    for place in sorted({d % max(self.dim(), 1) for d in dim}, reverse=True):
        self = aten.squeeze.dim(self, place) if self.dim() and _is_one(self.shape[place]) else self
    return self


def _is_one(size: int | SymInt) -> bool:
    from torch.fx.experimental.symbolic_shapes import guard_or_false

    return guard_or_false(size == 1)


def scatter_reduce(
    self: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """The mean, as the sum over the count; ONNX has the other reductions."""
    if reduce != "mean":
        return NotImplemented
    ones = torch.ones_like(src)
    touched = torch.zeros_like(self).scatter_add(dim, index, ones)
    count = touched + 1 if include_self else touched
    start = self if include_self else torch.where(touched > 0, torch.zeros_like(self), self)
    total, count = start.scatter_add(dim, index, src), count.clamp_min(1)
    return total / count if self.is_floating_point() else torch.div(total, count, rounding_mode="floor")


def index_reduce(
    self: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """As a scatter in which a whole slice has one index."""
    if self.dim() == 0:
        row = index_reduce(self[None], 0, index.reshape(-1), source.reshape(-1), reduce, include_self=include_self)
        return row[0]
    shape = [1] * self.dim()
    shape[dim] = -1
    spread = index.reshape(shape).expand(source.shape)
    return self.scatter_reduce(dim, spread, source, reduce, include_self=include_self)


def _with_wide_indices(operator: Any) -> Callable[..., Any]:
    """ONNX Runtime scatters by 64-bit indices only."""

    def decomposition(self: Tensor, indices: Sequence[Tensor | None], *args: Any, **kwargs: Any) -> Any:
        if not any(index is not None and index.dtype == torch.int32 for index in indices):
            return NotImplemented
        wide = [
            index.to(torch.int64) if index is not None and index.dtype == torch.int32 else index for index in indices
        ]
        return operator(self, wide, *args, **kwargs)

    return decomposition


TABLE: dict[Any, Callable[..., Any]] = {
    aten.squeeze.default: squeeze,
    aten.squeeze.dim: squeeze_dim,
    aten.squeeze.dims: squeeze_dims,
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_reduce.default: index_reduce,
    aten.index_put.default: _with_wide_indices(aten.index_put.default),
    aten._unsafe_index_put.default: _with_wide_indices(aten._unsafe_index_put.default),
}
