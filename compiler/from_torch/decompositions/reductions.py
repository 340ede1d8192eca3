"""Reductions and running reductions, written with those that ONNX has for the type at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass

aten = torch.ops.aten


def amax(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Over all dimensions where none is named, of booleans as numbers."""
    return _reduced(aten.amax.default, self, dim, keepdim)


def amin(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Over all dimensions where none is named, of booleans as numbers."""
    return _reduced(aten.amin.default, self, dim, keepdim)


def _reduced(reduce: Any, x: Tensor, dim: Sequence[int], keepdim: bool) -> Any:
    if x.dim() == 0:
        return x.clone()
    if x.dtype == torch.bool:
        return reduce(x.to(torch.int32), list(dim) or list(range(x.dim())), keepdim).to(torch.bool)
    return NotImplemented if dim else reduce(x, list(range(x.dim())), keepdim)


def maximum_of_all(self: Tensor) -> Any:
    """Of booleans as numbers."""
    return self.any() if self.dtype == torch.bool else NotImplemented


def minimum_of_all(self: Tensor) -> Any:
    """Of booleans as numbers."""
    return self.all() if self.dtype == torch.bool else NotImplemented


def maximum_along(self: Tensor, dim: int, keepdim: bool = False) -> Any:
    """Of booleans as numbers."""
    return _along(aten.max.dim, self, dim, keepdim)


def minimum_along(self: Tensor, dim: int, keepdim: bool = False) -> Any:
    """Of booleans as numbers."""
    return _along(aten.min.dim, self, dim, keepdim)


def _along(reduce: Any, x: Tensor, dim: int, keepdim: bool) -> Any:
    if x.dtype != torch.bool:
        return NotImplemented
    values, indices = reduce(x.to(torch.int32), dim, keepdim)
    return values.to(torch.bool), indices


def cumprod(self: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running products, each over its own prefix."""
    x = self.to(dtype) if dtype is not None else self
    x = x.to(torch.int64) if not (x.is_floating_point() or x.is_complex()) else x
    if x.dim() == 0:
        return x.clone()
    rows, before = _prefixes(x.movedim(dim, -1))
    return torch.where(before, rows, torch.ones_like(rows)).prod(-1).movedim(-1, dim)


def cummax(self: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Running maxima and the last position where each was met."""
    return _running(self, dim, amax, torch.ge)


def cummin(self: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Running minima and the last position where each was met."""
    return _running(self, dim, amin, torch.le)


def _prefixes(x: Tensor) -> tuple[Tensor, Tensor]:
    """[..., n] -> its values once for each prefix [..., n, n], and which of them belong to the prefix."""
    n = x.shape[-1]
    place = torch.arange(n, device=x.device)
    return x.unsqueeze(-2).expand(*x.shape, n), place[None, :] <= place[:, None]


def _kept(function: Callable[..., Any], x: Tensor, dim: list[int]) -> Tensor:
    """A decomposition's result, also where it keeps the operator."""
    result = function(x, dim)
    return getattr(aten, function.__name__).default(x, dim) if result is NotImplemented else result


def _running(x: Tensor, dim: int, best: Callable[..., Tensor], better: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    rows, before = _prefixes(x.movedim(dim, -1))
    # Outside its prefix a row repeats its first value, which is in every prefix.
    values = _kept(best, torch.where(before, rows, rows[..., :1]), [-1])
    place = torch.arange(rows.shape[-1], device=x.device)
    met = before & better(rows, values.unsqueeze(-1))
    return values.movedim(-1, dim), torch.where(met, place, -1).amax(-1).movedim(-1, dim)


def _in_its_type(operator: Any) -> Callable[..., Any]:
    """A reduction into another type, its operand brought to that type first, as torch does, and not its result."""

    def decomposition(self: Tensor, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Any:
        if args and isinstance(args[-1], torch.dtype):
            dtype, args = args[-1], args[:-1]
        return NotImplemented if dtype in (None, self.dtype) else operator(self.to(dtype), *args, **kwargs)

    return decomposition


_INTO_A_TYPE = (
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.mean.default,
    aten.mean.dim,
    aten.prod.default,
    aten.prod.dim_int,
    aten.cumsum.default,
    aten.softmax.int,
    aten.log_softmax.int,
)

TABLE: dict[Any, Callable[..., Any]] = {
    **{operator: _in_its_type(operator) for operator in _INTO_A_TYPE},
    aten.amax.default: amax,
    aten.amin.default: amin,
    aten.max.default: maximum_of_all,
    aten.min.default: minimum_of_all,
    aten.max.dim: maximum_along,
    aten.min.dim: minimum_along,
    aten.cumprod.default: cumprod,
    aten.cummax.default: cummax,
    aten.cummin.default: cummin,
}
