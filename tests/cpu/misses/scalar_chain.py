"""Chains of scalar arithmetic."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

TOKENS, WIDTH = 128, 768


class Chain(nn.Module):
    """Two factors, then two summands."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 * 3 + 1 + 2


class Normalised(nn.Module):
    """A picture's values from [0, 255] to the range a network wants, in the usual four steps."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x / 255.0 - 0.5) / 0.25) * 2.0


def _hand(factor: float, summand: float) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(
        f"chain ({shape} x) => ({shape} y) {{ m = Mul (x, factor) y = Add (m, summand) }}",
        factor=torch.tensor(factor),
        summand=torch.tensor(summand),
    )


MISSES = (
    Miss(
        "scalar_chain",
        Chain,
        lambda: (torch.randn(1, TOKENS, WIDTH),),
        lambda _: _hand(6.0, 3.0),
        present={"Mul": 1, "Add": 1},
    ),
    Miss(
        "scalar_chain_normalised",
        Normalised,
        lambda: (torch.rand(1, TOKENS, WIDTH) * 255,),
        lambda _: _hand(8 / 255, -4.0),
        gone=frozenset(["Div"]),
    ),
)
