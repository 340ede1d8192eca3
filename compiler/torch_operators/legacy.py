"""Experimental operators that were in ONNX before version 1.5 and still are in files; ONNX Runtime runs them, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Affine", like=0)
def affine(op: Operation, x: Tensor) -> Tensor:
    """`alpha·x + beta`."""
    return torch.add(torch.mul(x, op.attribute("alpha", 1.0)), op.attribute("beta", 0.0))


@operator("ScaledTanh", like=0)
def scaled_tanh(op: Operation, x: Tensor) -> Tensor:
    """`alpha·tanh(beta·x)`."""
    return torch.mul(torch.tanh(torch.mul(x, op.attribute("beta", 1.0))), op.attribute("alpha", 1.0))


@operator("ImageScaler", like=0)
def image_scaler(op: Operation, x: Tensor) -> Tensor:
    """`scale·x + bias`, a bias for each channel."""
    bias = torch.reshape(x.new_tensor(list(op.required("bias"))), [-1, 1, 1])
    return torch.add(torch.mul(x, op.attribute("scale", 1.0)), bias)


@operator("Crop", like=0)
def crop(op: Operation, x: Tensor) -> Tensor:
    """An image without its border (left, top, right, bottom), or a part of given size at (left, top)."""
    left, top, right, bottom = op.required("border")
    size = op.numbers("scale")
    if size is not None:
        return x[:, :, top : top + size[0], left : left + size[1]]
    return x[:, :, top : x.size(2) - bottom, left : x.size(3) - right]
