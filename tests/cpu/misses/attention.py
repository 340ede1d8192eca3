"""Scaled dot-product attention: plain, causal, masked (with torch's guard against NaN), with shared keys and values.

By hand: ONNX's Attention on values of rank 3, which also takes in the splitting into heads and back. It measures
fastest of five forms on ONNX Runtime 1.32's CPU (one thread, 12 heads of 64, 128 tokens): 583 µs, against 657 µs for
MultiHeadAttention and 703 µs for MatMul and Softmax; causal 646 against 781 and 740, and 836 for GroupQueryAttention.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Miss, written

TOKENS, HEADS, SHARED_HEADS, WIDTH = 128, 12, 4, 64


def _heads(x: Tensor) -> Tensor:
    return x.reshape(1, TOKENS, -1, WIDTH).transpose(1, 2)


def _together(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(1, TOKENS, HEADS * WIDTH)


class Plain(nn.Module):
    """Every token sees every other."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _together(F.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v)))


class Causal(nn.Module):
    """`is_causal`, which torch writes as a mask."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _together(F.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v), is_causal=True))


class Masked(nn.Module):
    """A boolean mask in which no row is empty: the guard against NaN can never act."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        return _together(F.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v), attn_mask=mask))


class SharedKeys(nn.Module):
    """Grouped queries (Ainslie et al. 2023, arXiv:2305.13245), keys and values repeated as transformers does it."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        repeats = HEADS // SHARED_HEADS
        return _together(
            F.scaled_dot_product_attention(
                _heads(q), self._repeated(k, repeats), self._repeated(v, repeats), is_causal=True
            )
        )

    @staticmethod
    def _repeated(x: Tensor, repeats: int) -> Tensor:
        heads = _heads(x)[:, :, None].expand(1, SHARED_HEADS, repeats, TOKENS, WIDTH)
        return heads.reshape(1, HEADS, TOKENS, WIDTH)


class HandWritten(nn.Module):
    """Attention as models wrote it before torch had an operator, the causal mask built on the way."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = _heads(q) @ _heads(k).transpose(-1, -2) / WIDTH**0.5
        rows = torch.arange(TOKENS, device=q.device)
        unseen = rows[None, :] > rows[:, None]
        scores = scores.masked_fill(unseen[None, None], torch.finfo(q.dtype).min)
        return _together(scores.softmax(dim=-1) @ _heads(v))


def _miss(name: str, module: type[nn.Module], causal: bool, shared: int = HEADS) -> Miss:
    wide, narrow = HEADS * WIDTH, shared * WIDTH

    def hand(_: nn.Module) -> onnx.ModelProto:
        keys = f"float[1,{TOKENS},{narrow}]"
        heads = f"q_num_heads = {HEADS}, kv_num_heads = {shared}"
        return written(
            f"""attention (float[1,{TOKENS},{wide}] q, {keys} k, {keys} v) => (float[1,{TOKENS},{wide}] y) {{
                y = Attention <{heads}, is_causal = {int(causal)}> (q, k, v)
            }}"""
        )

    return Miss(
        name,
        module,
        lambda: (torch.randn(1, TOKENS, wide), torch.randn(1, TOKENS, narrow), torch.randn(1, TOKENS, narrow)),
        hand,
        present={"Attention": 1},
        gone=frozenset(["Softmax", "MatMul", "IsNaN", "Where", "Expand", "Transpose", "Reshape"]),
    )


MISSES = (
    _miss("attention_plain", Plain, causal=False),
    _miss("attention_causal", Causal, causal=True),
    _miss("attention_nan_guard", Masked, causal=True),
    _miss("attention_repeated_keys", SharedKeys, causal=True, shared=SHARED_HEADS),
    _miss("attention_mask_construction", HandWritten, causal=True),
)
