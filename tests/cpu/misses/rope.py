"""Rotary position embedding, rotate-half (Llama) and interleaved (GPT-J), with cosines and sines that fold."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

HEADS, TOKENS, WIDTH = 12, 128, 64


class Rope(nn.Module):
    """Queries and keys turned by their positions."""

    inverse_frequencies: Tensor

    def __init__(self, turn: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        frequencies = 1.0 / (10000.0 ** (torch.arange(0, WIDTH, 2).float() / WIDTH))
        self.register_buffer("inverse_frequencies", frequencies)
        self.turn = turn

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(q.shape[-2], device=q.device).float()
        angles = torch.outer(positions, self.inverse_frequencies)
        return self.turn(q, angles), self.turn(k, angles)


def half(x: Tensor, angles: Tensor) -> Tensor:
    angles = torch.cat((angles, angles), dim=-1)
    left, right = x[..., : WIDTH // 2], x[..., WIDTH // 2 :]
    return x * angles.cos() + torch.cat((-right, left), dim=-1) * angles.sin()


def interleaved(x: Tensor, angles: Tensor) -> Tensor:
    cos, sin = angles.cos().repeat_interleave(2, dim=-1), angles.sin().repeat_interleave(2, dim=-1)
    even, odd = x[..., ::2], x[..., 1::2]
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * cos + turned * sin


def _hand(interleave: int) -> Callable[[nn.Module], onnx.ModelProto]:
    def write(module: nn.Module) -> onnx.ModelProto:
        angles = torch.outer(torch.arange(TOKENS).float(), module.get_buffer("inverse_frequencies"))
        shape = f"float[1,{HEADS},{TOKENS},{WIDTH}]"
        turn = f"com.microsoft.RotaryEmbedding <interleaved = {interleave}>"
        return written(
            f"""rope ({shape} q, {shape} k) => ({shape} p, {shape} r) {{
                p = {turn} (q, places, cos, sin)
                r = {turn} (k, places, cos, sin)
            }}""",
            places=torch.arange(TOKENS)[None],
            cos=angles.cos(),
            sin=angles.sin(),
        )

    return write


def _miss(turn: Callable[[Tensor, Tensor], Tensor], interleave: int) -> Miss:
    return Miss(
        f"rope_{turn.__name__}",
        lambda: Rope(turn),
        lambda: (torch.randn(1, HEADS, TOKENS, WIDTH), torch.randn(1, HEADS, TOKENS, WIDTH)),
        _hand(interleave),
        gone=frozenset(["Cos", "Sin", "Neg", "Slice", "Concat", "Mul"]),
    )


MISSES = (_miss(half, 0), _miss(interleaved, 1))
