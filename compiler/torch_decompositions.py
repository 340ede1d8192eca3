"""torch operators that torch's ONNX translation lacks or gets wrong, written with ones that it has.

Each function computes what the operator does, in torch; while a graph is decomposed it is traced in the operator's
place, so shapes and dtypes follow by themselves, also for sizes that vary. Returning NotImplemented keeps the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .torch_decompositions_pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    pad,
)

if TYPE_CHECKING:
    from torch import SymInt

aten = torch.ops.aten


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The decomposition of each operator."""
    return dict(_TABLE)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention over any number of batch dimensions as attention over `[batch, heads, length, width]`."""
    rank = query.dim()
    if rank == 4 and key.dim() == 4 and value.dim() == 4:
        return NotImplemented

    def raised(x: Tensor, batch: Sequence[int | SymInt]) -> Tensor:
        """[..., L, E] -> [N, H, L, E], where `batch` is what comes before L in every operand."""
        x = x.expand(*batch, *x.shape[-2:])
        return x[(None,) * (4 - x.dim())] if x.dim() <= 4 else x.flatten(0, x.dim() - 4)

    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    mask = raised(attn_mask, batch) if attn_mask is not None and rank > 4 and attn_mask.dim() > 2 else attn_mask
    operands = (raised(x, batch) for x in (query, key, value))
    result = aten.scaled_dot_product_attention.default(
        *operands, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return result.reshape(*batch, *result.shape[-2:])


def sort_stable(self: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """ONNX's TopK, by which torch's exporter sorts, is stable by its specification."""
    return aten.sort.default(self, dim, descending)


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
    values = self if isinstance(self, Tensor) else _scalar(self, sorted_sequence)
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
    elements = elements if isinstance(elements, Tensor) else _scalar(elements, tensor)
    test_elements = test_elements if isinstance(test_elements, Tensor) else _scalar(test_elements, tensor)
    found = (elements.unsqueeze(-1) == test_elements.flatten()).any(-1)
    return ~found if invert else found


def cdist_forward(x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Tensor:
    """Distances between all pairs of rows: by a matrix product where torch does it so, else by differences."""
    rows = (x1.shape[-2], x2.shape[-2])
    by_product = compute_mode == 1 or (compute_mode in (None, 0) and max(rows) > 25)
    if p == 2 and by_product:
        squares = (x1 * x1).sum(-1, keepdim=True) + (x2 * x2).sum(-1, keepdim=True).transpose(-1, -2)
        return (squares - 2 * (x1 @ x2.transpose(-1, -2))).clamp_min(0).sqrt()
    difference = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 0:
        return (difference != 0).to(x1.dtype).sum(-1)
    if p == float("inf"):
        return difference.amax(-1)
    if p == 1:
        return difference.sum(-1)
    return (difference * difference).sum(-1).sqrt() if p == 2 else difference.pow(p).sum(-1).pow(1 / p)


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


def cross_entropy_loss(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """Against probabilities; ONNX's operator knows classes only."""
    if self.shape != target.shape:
        return NotImplemented
    axis = 0 if self.dim() == 1 else 1
    target = target * (1 - label_smoothing) + label_smoothing / self.shape[axis]
    if weight is not None:
        target = target * weight.reshape([-1 if i == axis else 1 for i in range(self.dim())])
    losses = -(self.log_softmax(axis) * target).sum(axis)
    if reduction == 0:
        return losses
    return losses.sum() if reduction == 2 else losses.sum() / (self.numel() // self.shape[axis])


def rrelu(
    self: Tensor,
    noise: Tensor,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Any:
    """In evaluation mode the slope is the middle of its range."""
    if training:
        return NotImplemented
    return torch.nn.functional.leaky_relu(self, (lower + upper) / 2), noise


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


def fmax(self: Tensor, other: Tensor) -> Tensor:
    """The larger number, a NaN counting as none."""
    return torch.where(self.isnan() | (other > self), other, self) if self.is_floating_point() else self.maximum(other)


def fmin(self: Tensor, other: Tensor) -> Tensor:
    """The smaller number, a NaN counting as none."""
    return torch.where(self.isnan() | (other < self), other, self) if self.is_floating_point() else self.minimum(other)


def hypot(self: Tensor, other: Tensor) -> Tensor:
    """The length of the hypotenuse, without overflow."""
    a, b = self.abs(), other.abs()
    longer = torch.maximum(a, b)
    ratio = torch.minimum(a, b) / torch.where(longer == 0, torch.ones_like(longer), longer)
    return longer * (1 + ratio * ratio).sqrt()


def signbit(self: Tensor) -> Tensor:
    """Whether the sign is negative, that of -0 included."""
    return (self < 0) | ((self == 0) & (self.reciprocal() < 0)) if self.is_floating_point() else self < 0


def copysign(self: Tensor, other: Tensor | float) -> Tensor:
    """One's magnitude with the other's sign."""
    sign = other if isinstance(other, Tensor) else _scalar(other, self)
    size = (self if self.is_floating_point() else self.to(torch.float32)).abs()
    return torch.where(signbit(sign), -size, size)


def _scalar(value: float, like: Tensor) -> Tensor:
    kind = torch.float32 if isinstance(value, float) and not like.is_floating_point() else like.dtype
    return torch.full((), value, dtype=kind, device=like.device)


_TABLE: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: attention,
    aten.sort.stable: sort_stable,
    aten.cumprod.default: cumprod,
    aten.cummax.default: cummax,
    aten.cummin.default: cummin,
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
    aten._cdist_forward.default: cdist_forward,
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_reduce.default: index_reduce,
    aten.cross_entropy_loss.default: cross_entropy_loss,
    aten.rrelu_with_noise_functional.default: rrelu,
    aten.amax.default: amax,
    aten.amin.default: amin,
    aten.max.default: maximum_of_all,
    aten.min.default: minimum_of_all,
    aten.max.dim: maximum_along,
    aten.min.dim: minimum_along,
    aten.squeeze.default: squeeze,
    aten.squeeze.dim: squeeze_dim,
    aten.squeeze.dims: squeeze_dims,
    aten.fmax.default: fmax,
    aten.fmin.default: fmin,
    aten.hypot.default: hypot,
    aten.signbit.default: signbit,
    aten.copysign.Tensor: copysign,
    aten.copysign.Scalar: copysign,
    aten._adaptive_avg_pool3d.default: adaptive_avg_pool,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.adaptive_max_pool3d.default: adaptive_max_pool,
    aten.avg_pool1d.default: avg_pool,
    aten.avg_pool2d.default: avg_pool,
    aten.avg_pool3d.default: avg_pool,
    aten.pad.default: pad,
}
