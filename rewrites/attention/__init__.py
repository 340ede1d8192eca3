"""Attention: its pieces recognised, joined and moved to where they cost least."""

from __future__ import annotations

from ...compiler.rule import Rule
from .attention_heads import attention_joins_heads, attention_of_groups
from .attention_mask import causal_mask, empty_mask
from .attention_scale import key_scale, query_divisor, query_scale
from .nan_guard import nan_guard_chosen_mask, nan_guard_constant_mask, nan_guard_unmasked
from .repeated_heads import grouped_product, repeat_heads, transpose_of_repeated
from .scaled_dot_product import (
    attention_chosen_mask,
    attention_constant_mask,
    attention_guarded,
    attention_unmasked,
)
from .score_scale import divisor_before_product, joined_scales, scale_before_product

RULES: tuple[Rule, ...] = (
    scale_before_product,
    divisor_before_product,
    joined_scales,
    nan_guard_unmasked,
    nan_guard_constant_mask,
    nan_guard_chosen_mask,
    repeat_heads,
    transpose_of_repeated,
    grouped_product,
    attention_unmasked,
    attention_constant_mask,
    attention_chosen_mask,
    attention_guarded,
    query_scale,
    query_divisor,
    key_scale,
    empty_mask,
    causal_mask,
    attention_of_groups,
    attention_joins_heads,
)
