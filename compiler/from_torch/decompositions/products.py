"""Attention, products and distances, of shapes and types that ONNX's operators or ONNX Runtime's kernels refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import SymInt

aten = torch.ops.aten


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


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Of integers by MatMul, for which ONNX Runtime has a kernel, as it has not for Gemm."""
    if input.is_floating_point() or input.is_complex():
        return NotImplemented
    product = input @ weight.transpose(-1, -2)
    return product if bias is None else product + bias


def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    """Of integers by MatMul, as above."""
    return NotImplemented if self.is_floating_point() or self.is_complex() else self * beta + (mat1 @ mat2) * alpha


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


def cross_entropy_loss(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """Against probabilities, or against classes with smoothing: ONNX's operator knows classes in a batch only."""
    axis = 0 if self.dim() == 1 else 1
    if self.shape == target.shape:
        target = target * (1 - label_smoothing) + label_smoothing / self.shape[axis]
        losses = -(self.log_softmax(axis) * target * _by_class(self, weight, axis)).sum(axis)
        return _reduced(losses, reduction, self.numel() // self.shape[axis])
    if label_smoothing == 0 and self.dim() > 1:
        return NotImplemented
    counted = target != ignore_index
    place = torch.where(counted, target, 0).unsqueeze(axis)
    weights = _by_class(self, weight, axis)
    scores = self.log_softmax(axis) * weights
    smooth = label_smoothing / self.shape[axis]
    losses = -(scores.gather(axis, place).squeeze(axis) * (1 - label_smoothing) + scores.sum(axis) * smooth)
    total = torch.where(counted, weights.gather(axis, place).squeeze(axis), 0).sum()
    return _reduced(torch.where(counted, losses, 0), reduction, total)


def _by_class(like: Tensor, weight: Tensor | None, axis: int) -> Tensor:
    if weight is None:
        return torch.ones_like(like)
    return weight.reshape([-1 if i == axis else 1 for i in range(like.dim())]).expand_as(like)


def _reduced(losses: Tensor, reduction: int, total: Any) -> Tensor:
    if reduction == 0:
        return losses
    return losses.sum() if reduction == 2 else losses.sum() / total


TABLE: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: attention,
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten._cdist_forward.default: cdist_forward,
    aten.cross_entropy_loss.default: cross_entropy_loss,
}
