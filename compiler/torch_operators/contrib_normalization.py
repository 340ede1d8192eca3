"""Normalizations that ONNX Runtime's optimiser writes.

Source: ONNX Runtime's operator schemas; `SimplifiedLayerNormalization` is in the domain `ai.onnx`, though not in ONNX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from .contrib_linear import MICROSOFT
from .dtypes import torch_dtype
from .normalization import layer_norm_statistics, normalized_shape, rms_norm
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("SimplifiedLayerNormalization", like=0)
@operator("SimplifiedLayerNormalization", domain=MICROSOFT, like=0)
def simplified_layer_normalization(op: Operation, x: Tensor, scale: Tensor) -> Any:
    """Division by the root mean square."""
    axis, eps, stash = (
        op.attribute("axis", -1),
        op.attribute("epsilon", 1e-5),
        torch_dtype(op.attribute("stash_type", 1)),
    )
    normalized = normalized_shape(op, axis)
    if op.wants(1):
        found = op.call(rms_statistics, x, scale, axis, eps, stash)
        return found[0], found[1]
    return (
        op.call(rms_norm, x, scale, axis, eps, stash)
        if normalized is None
        else functional.rms_norm(x, normalized, scale, eps)
    )


@operator("SkipLayerNormalization", domain=MICROSOFT, like=0)
def skip_layer_normalization(
    op: Operation, x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
) -> Any:
    """Layer normalization of a sum, which is the fourth output."""
    eps = op.attribute("epsilon", 1e-12)
    total = torch.add(x, skip)
    total = total if bias is None else torch.add(total, bias)
    if op.wants(1) or op.wants(2):
        found = op.call(layer_norm_statistics, total, scale, shift, -1, eps, torch.float32)
        return found[0], found[1], found[2], total
    sizes = weight_shape(op, 2)
    if sizes is None:
        found = op.call(layer_norm_statistics, total, scale, shift, -1, eps, torch.float32)
        return found[0], None, None, total
    return functional.layer_norm(total, sizes, scale, shift, eps), None, None, total


@operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT, like=0)
def skip_simplified_layer_normalization(
    op: Operation, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Any:
    """Division of a sum by its root mean square; the sum is the fourth output."""
    eps = op.attribute("epsilon", 1e-12)
    total = torch.add(x, skip)
    total = total if bias is None else torch.add(total, bias)
    if op.wants(1):
        raise Unsupported("the mean of a normalization that has none")
    if op.wants(2):
        found = op.call(rms_statistics, total, scale, -1, eps, torch.float32)
        return found[0], None, found[1], total
    sizes = weight_shape(op, 2)
    if sizes is None:
        return op.call(rms_norm, total, scale, -1, eps, torch.float32), None, None, total
    return functional.rms_norm(total, sizes, scale, eps), None, None, total


@operator("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    op: Operation,
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segment_table: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> Any:
    """Layer normalization of the sum of word, position and segment embeddings; also the number of unmasked words."""
    tables = (words, positions, segment_table)
    total = op.call(embedded, ids, segments, position_ids, *tables)
    found = op.call(layer_norm_statistics, total, scale, shift, -1, op.attribute("epsilon", 1e-12), torch.float32)
    lengths = op.call(mask_lengths, ids, mask) if op.wants(1) else None
    return found[0], lengths, total


@operator("GroupNorm", domain=MICROSOFT, like=0)
def group_norm(op: Operation, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Group normalization, by default of images with channels last, and an optional SiLU."""
    last = bool(op.attribute("channels_last", 1))
    y = op.call(channels_first, x) if last else x
    y = torch.group_norm(y, op.required("groups"), scale, shift, op.attribute("epsilon", 1e-5))
    y = functional.silu(y) if op.attribute("activation", 0) else y
    return op.call(channels_last, y) if last else y


def weight_shape(op: Operation, index: int) -> list[int] | None:
    """The shape of a parameter, where all of it is known."""
    value = op.node.inputs[index]
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [size for size in value.shape.dims if isinstance(size, int)]


def rms_statistics(x: Tensor, scale: Tensor, axis: int, eps: float, stash: torch.dtype) -> tuple[Tensor, Tensor]:
    """Root-mean-square normalization, and the inverse root mean square."""
    axes = list(range(axis + x.dim() if axis < 0 else axis, x.dim()))
    inverse = torch.rsqrt(x.to(stash).square().mean(axes, True) + eps)
    return (x.to(stash) * inverse).to(scale.dtype) * scale, inverse


def embedded(
    ids: Tensor,
    segments: Tensor | None,
    position_ids: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segment_table: Tensor | None,
) -> Tensor:
    """Sum of word, position and segment embeddings."""
    places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0) if position_ids is None else position_ids
    total = words[ids] + positions[places]
    return total if segments is None or segment_table is None else total + segment_table[segments]


def mask_lengths(ids: Tensor, mask: Tensor | None) -> Tensor:
    """Number of unmasked words of each sample; zeros without a mask."""
    if mask is None:
        return torch.zeros(ids.shape[0], dtype=torch.int32, device=ids.device)
    return mask.sum(1).to(torch.int32)


def channels_first(x: Tensor) -> Tensor:
    """(n, …, c) → (n, c, …)."""
    return x.movedim(-1, 1)


def channels_last(x: Tensor) -> Tensor:
    """(n, c, …) → (n, …, c)."""
    return x.movedim(1, -1)
