"""The largest elements, and boxes that do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("TopK", widens=True)
def top_k(op: Operation, x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `k` largest or smallest elements and their places; of equal ones the first, unlike `torch.topk`."""
    axis = op.attribute("axis", -1)
    k = op.required("k") if count is None else op.sizes(1, count)[0]
    found = torch.sort(x, stable=True, dim=axis, descending=bool(op.attribute("largest", 1)))
    values, places = found[0], found[1]
    return torch.narrow(values, axis, 0, k), torch.narrow(places, axis, 0, k)


@operator("NonMaxSuppression")
def non_max_suppression(
    op: Operation,
    boxes: Tensor,
    scores: Tensor,
    limit: Tensor | None = None,
    overlap: Tensor | None = None,
    threshold: Tensor | None = None,
) -> Tensor:
    """Indices (batch, class, box) of boxes kept, best first."""
    return op.call(kept_boxes, boxes, scores, limit, overlap, threshold, bool(op.attribute("center_point_box", 0)))


def kept_boxes(
    boxes: Tensor, scores: Tensor, limit: Tensor | None, overlap: Tensor | None, threshold: Tensor | None, centred: bool
) -> Tensor:
    """Greedy suppression of boxes that overlap a better one of the same class."""
    most = 0 if limit is None else int(limit)
    share = 0.0 if overlap is None else float(overlap)
    kept: list[list[int]] = []
    for batch in range(boxes.shape[0] if most > 0 else 0):
        corners = as_corners(boxes[batch].detach(), centred)
        area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        for category in range(scores.shape[1]):
            score = scores[batch, category].detach()
            order = torch.sort(score, descending=True, stable=True)[1]
            if threshold is not None:
                order = order[score[order] > threshold.to(score.device)]
            found = 0
            while order.numel() and found < most:
                best = order[0]
                kept.append([batch, category, int(best)])
                found += 1
                order = order[1:]
                low = torch.maximum(corners[order, :2], corners[best, :2])
                high = torch.minimum(corners[order, 2:], corners[best, 2:])
                common = (high - low).clamp(min=0).prod(1)
                union = area[order] + area[best] - common
                order = order[~((common > 0) & (common / union > share))]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def as_corners(boxes: Tensor, centred: bool) -> Tensor:
    """Boxes as (low, low, high, high), from any two opposite corners or from centre and size."""
    if centred:
        return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    return torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
