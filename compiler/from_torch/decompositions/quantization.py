"""Rounding to few integers and back, as training for quantisation does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

KNOWN = ((0, 127), (0, 255), (-128, 127))  # ranges that torch's translation takes


def fake_quantize(self: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    """Rounded, kept in range, and back."""
    if (quant_min, quant_max) in KNOWN:
        return NotImplemented
    codes = ((self * (1 / scale)).round() + zero_point).clamp(quant_min, quant_max)
    return (codes - zero_point) * scale


def fake_quantize_by_channel(
    self: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Any:
    """The same with a scale for each channel."""
    shape = [-1 if i == axis else 1 for i in range(self.dim())]
    return fake_quantize(self, scale.reshape(shape), zero_point.reshape(shape), quant_min, quant_max)


TABLE: dict[Any, Callable[..., Any]] = {
    aten.fake_quantize_per_tensor_affine.default: fake_quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: fake_quantize,
    aten.fake_quantize_per_channel_affine.default: fake_quantize_by_channel,
}
