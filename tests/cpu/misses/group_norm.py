"""GroupNormalization, which ONNX Runtime's CPU expands to about thirty operators, as InstanceNormalization."""

from __future__ import annotations

import onnx
import torch
from torch import nn

from .case import Miss, written

GROUPS, CHANNELS, SIDE = 32, 256, 32


def _hand(module: nn.Module) -> onnx.ModelProto:
    image = f"float[1,{CHANNELS},{SIDE},{SIDE}]"
    return written(
        f"""norm ({image} x) => ({image} y) {{
            grouped = Reshape (x, by_group)
            normal = InstanceNormalization <epsilon = 1e-5> (grouped, ones, zeros)
            image = Reshape (normal, by_channel)
            scaled = Mul (image, weight)
            y = Add (scaled, bias)
        }}""",
        by_group=torch.tensor([1, GROUPS, -1]),
        by_channel=torch.tensor([1, CHANNELS, SIDE, SIDE]),
        ones=torch.ones(GROUPS),
        zeros=torch.zeros(GROUPS),
        weight=module.get_parameter("weight").reshape(-1, 1, 1),
        bias=module.get_parameter("bias").reshape(-1, 1, 1),
    )


def _module() -> nn.Module:
    norm = nn.GroupNorm(GROUPS, CHANNELS)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


MISSES = (
    Miss(
        "group_norm",
        _module,
        lambda: (torch.randn(1, CHANNELS, SIDE, SIDE),),
        _hand,
        gone=frozenset(["GroupNormalization", "ReduceMean", "Sqrt"]),
    ),
)
