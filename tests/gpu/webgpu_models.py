"""Shapes of well-known models with seeded random weights: what a program's speed depends on, and no file is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

hf: Any = transformers  # its configurations take more than their signatures say
Entry = tuple[nn.Module, tuple[Tensor, ...]]

PYCODE = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way past them (He et al., 2016, section 4.2, option A)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.grown = after - before
        step = 2 if self.grown else 1
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, step, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W, with half the side and twice the channels where those grow."""
        past = x
        if self.grown:
            past = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grown // 2, self.grown // 2))
        return torch.relu(self.second(self.first(x)) + past)


def _resnet20() -> nn.Module:
    stages = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *[BasicBlock(before, after) for before, after in stages],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def _digits() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def llama() -> Any:
    """pycode-llama's shape."""
    return hf.LlamaForCausalLM(hf.LlamaConfig(**PYCODE, attn_implementation="sdpa"))


class _Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x, use_cache=False) if x.dtype == torch.int64 else self.model(x)
        return found.logits


def _vit() -> nn.Module:
    size = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    return _Logits(hf.ViTForImageClassification(hf.ViTConfig(**size, num_labels=1000)))


def _mobilenet() -> nn.Module:
    return _Logits(hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(num_labels=1000)))


def _picture(channels: int, side: int) -> Tensor:
    return torch.randn(1, channels, side, side)


_MODELS: dict[str, Callable[[], Entry]] = {
    "digits CNN": lambda: (_digits(), (_picture(1, 8),)),
    "ResNet-20": lambda: (_resnet20(), (_picture(3, 32),)),
    "MobileNetV2": lambda: (_mobilenet(), (_picture(3, 224),)),
    "ViT-S": lambda: (_vit(), (_picture(3, 224),)),
    "pycode-llama 128": lambda: (_Logits(llama()), (torch.randint(3, 4096, (1, 128)),)),
}
NAMES = tuple(_MODELS)


def model_of(name: str) -> Entry:
    """The model in eval mode and its arguments, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, args = _MODELS[name]()
    return module.eval(), args
