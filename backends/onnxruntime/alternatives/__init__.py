"""Operators that only ONNX Runtime has, offered where its CPU provider has a kernel; the price decides."""

from __future__ import annotations

from collections.abc import Mapping

from ....compiler.rule import Rule
from .attention import (
    group_query_attention,
    multi_head_attention,
    multi_head_attention_any_mask,
    multi_head_scale,
)
from .bias_gelu import bias_gelu
from .fused_matmul import scaled_operand, scaled_product, transposed_left, transposed_right
from .masked_softmax import chosen_softmax, masked_softmax
from .quick_gelu import quick_gelu
from .rotary_embedding import (
    rotary_embedding_by_position,
    rotary_embedding_joins_heads,
    rotary_embedding_of_all,
    rotary_embedding_of_one,
)
from .sum_before_layer_norm import sum_before_layer_norm

RULES: tuple[Rule, ...] = (
    quick_gelu,
    bias_gelu,
    sum_before_layer_norm,
    transposed_left,
    transposed_right,
    scaled_product,
    scaled_operand,
    multi_head_attention,
    multi_head_attention_any_mask,
    multi_head_scale,
    group_query_attention,
    rotary_embedding_by_position,
    rotary_embedding_of_one,
    rotary_embedding_of_all,
    rotary_embedding_joins_heads,
    masked_softmax,
    chosen_softmax,
)

# Alone, Sum of two and Add cost the same; what the runtime makes of Add before a norm (see `sum_before_layer_norm`)
# only a trial of the whole block shows, and for that Sum must be chosen first.
PREFERENCES: Mapping[str, float] = {"Sum": 0.5, "Attention": 0.8}
