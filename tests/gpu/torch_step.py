"""A decoding step of a Llama in plain torch, as one would write it for torch.compile: what the table compares with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class TorchStep(nn.Module):
    """One token through a transformers Llama, its cache in buffers that are written in place.

    Args:
        model: a `LlamaForCausalLM`; its weights are shared.
        slots: of the cache.
    """

    def __init__(self, model: Any, slots: int) -> None:
        super().__init__()
        self.model, config = model, model.config
        self.heads, self.shared = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        self.size = config.head_dim
        shape = (1, self.heads, slots, self.size)
        device, dtype = model.device, model.dtype
        for i in range(config.num_hidden_layers):
            self.register_buffer(f"keys{i}", torch.zeros(shape, dtype=dtype, device=device))
            self.register_buffer(f"values{i}", torch.zeros(shape, dtype=dtype, device=device))
        angle = torch.arange(slots, device=device).float()[:, None] * model.model.rotary_emb.inv_freq.float()[None]
        self.register_buffer("cos", torch.cat([angle, angle], 1).cos().to(dtype))
        self.register_buffer("sin", torch.cat([angle, angle], 1).sin().to(dtype))
        self.register_buffer("slot", torch.arange(slots, device=device))

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        """The logits after a token at a position."""
        buffers = dict(self.named_buffers(recurse=False))
        h = functional.embedding(ids, self.model.model.embed_tokens.weight)
        cos, sin = buffers["cos"][position], buffers["sin"][position]
        visible = (buffers["slot"] <= position)[None, None, None]

        def turned(x: Tensor) -> Tensor:
            a, b = x.chunk(2, -1)
            return x * cos + torch.cat((-b, a), -1) * sin

        for i, layer in enumerate(self.model.model.layers):
            x, attention = layer.input_layernorm(h), layer.self_attn
            q = attention.q_proj(x).view(1, 1, -1, self.size).transpose(1, 2)
            k = attention.k_proj(x).view(1, 1, -1, self.size).transpose(1, 2)
            v = attention.v_proj(x).view(1, 1, -1, self.size).transpose(1, 2)
            keys, values = buffers[f"keys{i}"], buffers[f"values{i}"]
            keys.index_copy_(2, position, turned(k))
            values.index_copy_(2, position, v)
            wide = (t.repeat_interleave(self.shared, 1) for t in (keys, values))
            y = functional.scaled_dot_product_attention(turned(q), *wide, attn_mask=visible)
            h = h + attention.o_proj(y.transpose(1, 2).reshape(1, 1, -1))
            h = h + layer.mlp(layer.post_attention_layernorm(h))
        logits: Tensor = self.model.lm_head(self.model.model.norm(h))
        return logits[:, -1]
