"""GroupNormalization, which ONNX Runtime's CPU expands to about thirty operators, as InstanceNormalization.

The scale and bias in one pass: BatchNormalization with mean 0 and variance 1.
"""

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
            y = BatchNormalization <epsilon = 0.0> (image, weight, bias, zero_mean, one_variance)
        }}""",
        by_group=torch.tensor([1, GROUPS, -1]),
        by_channel=torch.tensor([1, CHANNELS, SIDE, SIDE]),
        ones=torch.ones(GROUPS),
        zeros=torch.zeros(GROUPS),
        weight=module.get_parameter("weight"),
        bias=module.get_parameter("bias"),
        zero_mean=torch.zeros(CHANNELS),
        one_variance=torch.ones(CHANNELS),
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
