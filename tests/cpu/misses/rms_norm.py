"""RMSNorm in the orders that models write it in; six or seven operators each at opset 18."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Miss, written

WIDTH, TOKENS, EPSILON = 768, 128, 1e-6


class RmsNorm(nn.Module):
    """A norm with its formula handed in."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.weight)


def llama(x: Tensor, weight: Tensor) -> Tensor:
    hidden = x.to(torch.float32)
    hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + EPSILON)
    return weight * hidden.to(x.dtype)


def gemma(x: Tensor, weight: Tensor) -> Tensor:
    hidden = x.float()
    hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + EPSILON)
    return (hidden * weight.float()).type_as(x)


def divided(x: Tensor, weight: Tensor) -> Tensor:
    return weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPSILON))


def power(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x**2).mean(-1, keepdim=True).add(EPSILON) ** -0.5 * weight


def weight_first(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight) * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)


def weight_with_root(x: Tensor, weight: Tensor) -> Tensor:
    return x * (weight / torch.sqrt(x.square().mean(-1, keepdim=True) + EPSILON))


def native(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (WIDTH,), weight, EPSILON)


def _hand(module: nn.Module) -> onnx.ModelProto:
    return written(
        f"""norm (float[1,{TOKENS},{WIDTH}] x) => (float[1,{TOKENS},{WIDTH}] y) {{
            y = RMSNormalization <axis = -1, epsilon = {EPSILON}> (x, weight)
        }}""",
        weight=module.get_parameter("weight"),
    )


def _miss(formula: Callable[[Tensor, Tensor], Tensor]) -> Miss:
    return Miss(
        f"rms_norm_{formula.__name__}",
        lambda: RmsNorm(formula),
        lambda: (torch.randn(1, TOKENS, WIDTH),),
        _hand,
        present={"RMSNormalization": 1},
        gone=frozenset(["Pow", "Mul", "ReduceMean", "Sqrt", "Reciprocal", "Div"]),
    )


MISSES = tuple(map(_miss, (llama, gemma, divided, power, weight_first, weight_with_root, native)))
