"""Normalization layers and dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .dtypes import torch_dtype
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("BatchNormalization")
def batch_normalization(op: Operation, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> object:
    """Normalization per channel, by given statistics or (`training_mode`) by those of the batch."""
    eps, momentum = op.attribute("epsilon", 1e-5), op.attribute("momentum", 0.9)
    if op.version < 9 and not op.attribute("spatial", 1):
        raise Unsupported("statistics per position (spatial = 0)")
    if op.version < 14 and op.outputs > 1:
        raise Unsupported("outputs of training before opset 14")
    if not op.attribute("training_mode", 0):
        kinds = {op.dtype(index) for index in range(5)}
        if len(kinds) > 1:  # opset 15 lets the parameters' types differ
            return op.call(mixed_batch_norm, x, mean, var, scale, bias, eps)
        return functional.batch_norm(x, mean, var, scale, bias, False, 0.0, eps)
    found = op.call(trained_batch_norm, x, mean, var, scale, bias, momentum, eps)
    return found[0], found[1], found[2]


@operator("InstanceNormalization")
def instance_normalization(op: Operation, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalization per sample and channel."""
    return torch.instance_norm(x, scale, bias, None, None, True, 0.0, op.attribute("epsilon", 1e-5), False)


@operator("GroupNormalization")
def group_normalization(op: Operation, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalization per sample and group of channels; before opset 21 scale and bias are per group."""
    groups = op.required("num_groups")
    if op.version < 21:
        size = x.size(1) // groups
        scale, bias = torch.repeat_interleave(scale, size), torch.repeat_interleave(bias, size)
    return torch.group_norm(x, groups, scale, bias, op.attribute("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_normalization(op: Operation, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> object:
    """Normalization over the axes from `axis` on; also yields mean and 1/σ where asked."""
    axis, eps = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)
    normalized = normalized_shape(op, axis)
    if normalized is not None and op.outputs == 1:
        return functional.layer_norm(x, normalized, scale, bias, eps)
    stash = torch_dtype(op.attribute("stash_type", 1))
    found = op.call(layer_norm_statistics, x, scale, bias, axis, eps, stash)
    return found[0], found[1], found[2]


@operator("RMSNormalization")
def rms_normalization(op: Operation, x: Tensor, scale: Tensor) -> Tensor:
    """Division by the root mean square over the axes from `axis` on."""
    axis, eps = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)
    normalized = normalized_shape(op, axis)
    if normalized is not None:
        return functional.rms_norm(x, normalized, scale, eps)
    return op.call(rms_norm, x, scale, axis, eps, torch_dtype(op.attribute("stash_type", 1)))


@operator("LRN")
def local_response_normalization(op: Operation, x: Tensor) -> Tensor:
    """Division by the energy of neighbouring channels."""
    size, k = op.required("size"), op.attribute("bias", 1.0)
    alpha, beta = op.attribute("alpha", 1e-4), op.attribute("beta", 0.75)
    if size % 2 == 1:
        return functional.local_response_norm(x, size, alpha, beta, k)
    return op.call(even_local_response, x, size, alpha, beta, k)


@operator("LpNormalization")
def lp_normalization(op: Operation, x: Tensor) -> Tensor:
    """Division by the p-norm along an axis."""
    return functional.normalize(x, float(op.attribute("p", 2)), op.attribute("axis", -1))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(op: Operation, x: Tensor) -> Tensor:
    """Zero mean, unit variance."""
    axes = op.numbers("axes") or [0, 2, 3]
    centred = torch.sub(x, torch.mean(x, axes, True))
    return torch.div(centred, torch.add(torch.sqrt(torch.mean(torch.square(centred), axes, True)), 1e-9))


def normalized_shape(op: Operation, axis: int) -> list[int] | None:
    """Torch's `normalized_shape`, when the scale (and bias) have just that shape."""
    rank, scale = op.rank(0), op.node.inputs[1]
    if scale is None or scale.shape is None or not scale.shape.is_static():
        return None
    count = -axis if axis < 0 else (None if rank is None else rank - axis)
    sizes = [int(size) for size in scale.shape.dims if isinstance(size, int)]
    # a size of 1 may stand for broadcasting
    if count != len(sizes) or 1 in sizes:
        return None
    bias = op.node.inputs[2] if len(op.node.inputs) > 2 else None
    if bias is not None and (bias.shape is None or list(bias.shape.dims) != sizes):
        return None
    return sizes


def mixed_batch_norm(x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Batch normalization computed in float32, or wider where an operand is."""
    dtype = torch.float32
    for tensor in (x, mean, var, scale, bias):
        dtype = torch.promote_types(dtype, tensor.dtype)
    mean, var, scale, bias = (tensor.to(dtype) for tensor in (mean, var, scale, bias))
    return functional.batch_norm(x.to(dtype), mean, var, scale, bias, False, 0.0, eps).to(x.dtype)


def trained_batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, bias: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization by the batch's statistics, and the running ones after it (population variance)."""
    axes = [0, *range(2, x.dim())]
    batch_mean, batch_var = x.mean(axes), x.var(axes, correction=0)
    y = functional.batch_norm(x, batch_mean, batch_var, scale, bias, False, 0.0, eps)
    running_mean = mean * momentum + batch_mean.to(mean.dtype) * (1 - momentum)
    running_var = var * momentum + batch_var.to(var.dtype) * (1 - momentum)
    return y, running_mean, running_var


def layer_norm_statistics(
    x: Tensor, scale: Tensor, bias: Tensor | None, axis: int, eps: float, stash: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalization with mean and inverse deviation, computed in the type `stash`."""
    axes = list(range(axis + x.dim() if axis < 0 else axis, x.dim()))
    wide = x.to(stash)
    mean = wide.mean(axes, True)
    inverse = torch.rsqrt(wide.var(axes, correction=0, keepdim=True) + eps)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return y if bias is None else y + bias, mean, inverse


def rms_norm(x: Tensor, scale: Tensor, axis: int, eps: float, stash: torch.dtype) -> Tensor:
    """Root-mean-square normalization with a scale that broadcasts, computed in the type `stash`."""
    axes = list(range(axis + x.dim() if axis < 0 else axis, x.dim()))
    wide = x.to(stash)
    return (wide * torch.rsqrt(wide.square().mean(axes, True) + eps)).to(scale.dtype) * scale


def even_local_response(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Local response normalization over an even number of channels, the odd one after the centre."""
    before = (size - 1) // 2
    shape = [0, 0] * (x.dim() - 2) + [before, size - 1 - before]
    energy = functional.pad(x.square(), shape).unfold(1, size, 1).sum(-1)
    return x / (k + alpha / size * energy) ** beta
