"""Recurrent attention and the causal convolution that precedes it (opset 27 on)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("CausalConvWithState")
def causal_conv_with_state(
    op: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the present and past, and the last inputs for the next call."""
    found = op.call(causal_convolution, x, weight, bias, past, op.attribute("activation", "none") != "none")
    return found[0], found[1]


@operator("LinearAttention")
def linear_attention(
    op: Operation,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention by a state that each token updates."""
    heads = (op.required("q_num_heads"), op.required("kv_num_heads"))
    rule, scale = op.attribute("update_rule", "gated_delta"), op.attribute("scale", 0.0)
    found = op.call(recurrent_attention, query, key, value, past, decay, beta, heads, rule, scale)
    return found[0], found[1]


def causal_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution of (batch, channels, length) and the state after it."""
    size = weight.shape[2] - 1
    whole = functional.pad(x, [size, 0]) if past is None else torch.cat([past, x], 2)
    y = functional.conv1d(whole, weight, bias, groups=x.shape[1])
    return functional.silu(y) if silu else y, whole[:, :, whole.shape[2] - size :]


def recurrent_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None,
    decay: Tensor | None,
    beta: Tensor | None,
    heads: tuple[int, int],
    rule: str,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Token by token: decay the state, add (or correct by) the outer product of key and value, read by the query."""
    q_heads, kv_heads = heads
    dtype = query.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    batch, length = query.shape[:2]
    q, k, v = (
        x.to(wide).reshape(batch, length, count, -1)
        for x, count in ((query, q_heads), (key, kv_heads), (value, kv_heads))
    )
    factor = scale or 1 / math.sqrt(q.shape[-1])
    state = torch.zeros(batch, kv_heads, k.shape[-1], v.shape[-1], dtype=wide, device=query.device)
    state = state if past is None else past.to(wide)
    outputs: list[Tensor] = []
    for t in range(length):
        if rule.startswith("gated") and decay is not None:
            gate = decay[:, t].to(wide).reshape(batch, kv_heads, -1).exp()
            state = state * gate.unsqueeze(-1)
        target = v[:, t]
        if rule.endswith("delta"):
            target = target - torch.matmul(k[:, t].unsqueeze(2), state).squeeze(2)
            rate = 1.0 if beta is None else beta[:, t].to(wide).unsqueeze(-1)
            target = target * rate
        state = state + k[:, t].unsqueeze(-1) * target.unsqueeze(2)
        seen = state.repeat_interleave(q_heads // kv_heads, 1)
        outputs.append(torch.matmul(q[:, t].unsqueeze(2), seen).squeeze(2) * factor)
    y = torch.stack(outputs, 1).flatten(2)
    return y.to(dtype), state.to(dtype if past is None else past.dtype)
