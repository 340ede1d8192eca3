"""Well-known image models with seeded random weights, in half precision: speed does not depend on what they learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

hf: Any = transformers  # its configurations take more than their signatures say
VIT_S = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}


class Logits(nn.Module):
    """A classifier's logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


_MODELS: dict[str, Callable[[], nn.Module]] = {
    "ConvNeXt-T": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=1000)),
    "EfficientNet-B0": lambda: hf.EfficientNetForImageClassification(
        hf.EfficientNetConfig(num_labels=1000, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
    ),
    "MobileNetV2": lambda: hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(num_labels=1000)),
    "ResNet-50": lambda: hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000)),
    "ViT-S/16": lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT_S, num_labels=1000)),
}
NAMES = tuple(_MODELS)


def model_of(name: str) -> nn.Module:
    """The model in eval mode, the same each time, its running statistics those of what it computes.

    Some of these draw weights that shrink what passes through them until half precision is full of zeros; He's and the
    statistics of a batch of noise keep every layer's results near one, as training does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Logits(_MODELS[name]())
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_parameters()
            norm.momentum = None  # the mean over the batches seen
        for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d) and norms):
            nn.init.kaiming_normal_(conv.weight)
        with torch.no_grad():
            module.train(bool(norms))(pictures(4))
    return module.eval()


def pictures(count: int) -> Tensor:
    """Noise of ImageNet's size."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(1))
