"""Losses that ONNX has as operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor

# no class has this number, so torch ignores nothing
_NONE_IGNORED = -(2**31)


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(op: Operation, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Minus the log-probability of the class asked for."""
    return nll(op, x, target, weight)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(
    op: Operation, x: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy of scores, and their log-softmax."""
    log_probability = torch.log_softmax(x, 1)
    return nll(op, log_probability, target, weight), log_probability


def nll(op: Operation, x: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Torch's negative log-likelihood with the node's attributes."""
    ignored = op.attribute("ignore_index", _NONE_IGNORED)
    target = target if op.dtype(1) == torch.int64 else target.to(torch.int64)
    return functional.nll_loss(x, target, weight, ignore_index=ignored, reduction=op.attribute("reduction", "mean"))
