"""GELU by erf and by tanh; five to nine operators at opset 18."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Miss, written

WIDTH, TOKENS = 3072, 128


class Activation(nn.Module):
    """An activation with its formula handed in."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x)


def erf(x: Tensor) -> Tensor:
    return F.gelu(x)


def erf_half_first(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / sqrt(2.0)))


def tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def tanh_power(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(sqrt(2.0 / pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def tanh_factored(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x)))


def _miss(formula: Callable[[Tensor], Tensor]) -> Miss:
    approximate = "none" if formula.__name__.startswith("erf") else "tanh"

    def hand(_: nn.Module) -> onnx.ModelProto:
        return written(
            f"""gelu (float[1,{TOKENS},{WIDTH}] x) => (float[1,{TOKENS},{WIDTH}] y) {{
                y = Gelu <approximate = "{approximate}"> (x)
            }}"""
        )

    return Miss(
        f"gelu_{formula.__name__}",
        lambda: Activation(formula),
        lambda: (torch.randn(1, TOKENS, WIDTH),),
        hand,
        present={"Gelu": 1},
        gone=frozenset(["Erf", "Tanh", "Mul", "Add", "Div", "Pow"]),
    )


MISSES = tuple(map(_miss, (erf, erf_half_first, tanh, tanh_power, tanh_factored)))
