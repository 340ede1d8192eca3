"""The scale and bias of a LayerNormalization belong to the linear layers that read it."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

TOKENS, WIDTH = 128, 768


class NormThenQueryKeyValue(nn.Module):
    """One norm, three projections."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        normal = self.norm(x)
        return tuple(projection(normal) for projection in self.projections)


class ParallelNorms(nn.Module):
    """Two norms of one value, as in GPT-NeoX: without their scales they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        for norm in (self.attention_norm, self.feed_forward_norm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        self.attention, self.feed_forward = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.attention_norm(x)) + self.feed_forward(self.feed_forward_norm(x))
