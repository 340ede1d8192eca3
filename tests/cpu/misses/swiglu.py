"""The gated feed-forward layer of Llama: SiLU stands alone, so that the runtime has one operator for it."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Miss, written

TOKENS, WIDTH = 128, 2048


class Gate(nn.Module):
    """Gate and value come from one product of matrices, as packed models write it."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class GateLast(nn.Module):
    """x·(σ(x)·y): the order of some hand-written models."""

    def forward(self, gate: Tensor, value: Tensor) -> Tensor:
        return gate * (torch.sigmoid(gate) * value)


def _packed(_: nn.Module) -> onnx.ModelProto:
    return written(
        f"""gate (float[1,{TOKENS},{2 * WIDTH}] x) => (float[1,{TOKENS},{WIDTH}] y) {{
            gate, value = Split <axis = -1, num_outputs = 2> (x)
            active = com.microsoft.QuickGelu <alpha = 1.0> (gate)
            y = Mul (active, value)
        }}"""
    )


def _apart(_: nn.Module) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(
        f"""gate ({shape} gate, {shape} value) => ({shape} y) {{
            active = com.microsoft.QuickGelu <alpha = 1.0> (gate)
            y = Mul (active, value)
        }}"""
    )


MISSES = (
    Miss(
        "swiglu_packed",
        Gate,
        lambda: (torch.randn(1, TOKENS, 2 * WIDTH),),
        _packed,
        present={"com.microsoft::QuickGelu": 1, "Mul": 1},
        gone=frozenset(["Sigmoid"]),
    ),
    Miss(
        "swiglu_gate_last",
        GateLast,
        lambda: (torch.randn(1, TOKENS, WIDTH), torch.randn(1, TOKENS, WIDTH)),
        _apart,
        present={"com.microsoft::QuickGelu": 1, "Mul": 1},
        gone=frozenset(["Sigmoid"]),
    ),
)
