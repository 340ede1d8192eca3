"""Batch normalisation before the activation (pre-activation ResNet, DenseNet): no convolution stands before it."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

CHANNELS, SIDE = 64, 56


class PreActivation(nn.Module):
    """BatchNorm, ReLU, convolution; the block's input is a sum, as it is after a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.relu(self.norm(x + skip)))
