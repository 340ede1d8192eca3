"""Sorting, searching and what is found by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .arithmetic import scalar_like

if TYPE_CHECKING:
    pass

aten = torch.ops.aten


def sort_stable(self: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """ONNX's TopK, by which torch's exporter sorts, is stable by its specification."""
    return aten.sort.default(self, dim, descending)


def median(self: Tensor) -> Tensor:
    """The lower median of all elements."""
    return median_dim(self.flatten(), 0)[0]


def median_dim(self: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower median along a dimension, NaN where there is one."""
    values, indices = kthvalue(self, (self.shape[dim] + 1) // 2 if self.dim() else 1, dim, keepdim)
    if not self.is_floating_point():
        return values, indices
    undefined = self.isnan().any(dim, keepdim) if self.dim() else self.isnan()
    return torch.where(undefined, torch.full_like(values, float("nan")), values), indices


def kthvalue(self: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest element along a dimension, and its place."""
    if self.dim() == 0:
        return self.clone(), torch.zeros_like(self, dtype=torch.int64)
    values, indices = aten.sort.default(self, dim, False)
    values, indices = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def searchsorted(
    sorted_sequence: Tensor,
    self: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would be inserted: the number of elements before them."""
    values = self if isinstance(self, Tensor) else scalar_like(self, sorted_sequence)
    edges = sorted_sequence if sorter is None else sorted_sequence.gather(-1, sorter)
    edges = edges.unsqueeze(-2) if edges.dim() > 1 else edges
    after = edges <= values.unsqueeze(-1) if right or side == "right" else edges < values.unsqueeze(-1)
    return after.sum(-1).to(torch.int32 if out_int32 else torch.int64)


def bucketize(self: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Which bucket each value falls in."""
    return searchsorted(boundaries, self, out_int32=out_int32, right=right)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is among others."""
    tensor = elements if isinstance(elements, Tensor) else test_elements
    elements = elements if isinstance(elements, Tensor) else scalar_like(elements, tensor)
    test_elements = test_elements if isinstance(test_elements, Tensor) else scalar_like(test_elements, tensor)
    found = (elements.unsqueeze(-1) == test_elements.flatten()).any(-1)
    return ~found if invert else found


TABLE: dict[Any, Callable[..., Any]] = {
    aten.sort.stable: sort_stable,
    aten.median.default: median,
    aten.median.dim: median_dim,
    aten.kthvalue.default: kthvalue,
    aten.searchsorted.Tensor: searchsorted,
    aten.searchsorted.Scalar: searchsorted,
    aten.bucketize.Tensor: bucketize,
    aten.bucketize.Scalar: bucketize,
    aten.isin.Tensor_Tensor: isin,
    aten.isin.Tensor_Scalar: isin,
    aten.isin.Scalar_Tensor: isin,
}
