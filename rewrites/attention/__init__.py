"""Attention: its pieces recognised, joined and moved to where they cost least."""

from __future__ import annotations

from ...compiler.rule import Rule
from .attention_heads import attention_joins_heads, attention_of_groups
from .attention_mask import causal_mask, empty_mask
from .attention_scale import key_scale, query_divisor, query_scale
from .doubled_tables import cast_of_doubled, cos_of_doubled, scale_of_doubled, sin_of_doubled, unsqueeze_of_doubled
from .mask_sum import constant_into_mask, expand_of_mask, sum_of_masks, unsqueeze_of_mask
from .masked_fill import hidden_otherwise, hidden_where
from .nan_guard import nan_guard_chosen_mask, nan_guard_constant_mask, nan_guard_unmasked
from .normalised_heads import layer_norm_of_heads, rms_norm_of_heads
from .repeated_heads import grouped_product, repeat_heads, transpose_of_repeated
from .rotary_embedding import (
    rotary_constant_tables,
    rotary_halves_of_tables,
    rotary_neighbours_of_tables,
    rotary_of_halves,
    rotary_of_neighbours,
)
from .rotary_layout import partial_rotary, partial_rotary_of_split, rotary_joins_heads
from .rotary_swap import negation_of_half, negation_of_neighbour, swap_of_halves, swap_of_neighbours, swap_of_split
from .scaled_dot_product import (
    attention_chosen_mask,
    attention_constant_mask,
    attention_guarded,
    attention_unmasked,
)
from .score_scale import divisor_before_product, joined_scales, scale_before_product
from .softcap import attention_softcap, attention_softcap_masked
from .transposed_keys import transpose_of_merged

RULES: tuple[Rule, ...] = (
    # scores
    transpose_of_merged,
    scale_before_product,
    divisor_before_product,
    joined_scales,
    # masks
    hidden_otherwise,
    hidden_where,
    sum_of_masks,
    constant_into_mask,
    unsqueeze_of_mask,
    expand_of_mask,
    nan_guard_unmasked,
    nan_guard_constant_mask,
    nan_guard_chosen_mask,
    # grouped heads
    repeat_heads,
    transpose_of_repeated,
    grouped_product,
    # the whole
    attention_unmasked,
    attention_constant_mask,
    attention_chosen_mask,
    attention_guarded,
    attention_softcap,
    attention_softcap_masked,
    query_scale,
    query_divisor,
    key_scale,
    empty_mask,
    causal_mask,
    attention_of_groups,
    attention_joins_heads,
    # positions
    cos_of_doubled,
    sin_of_doubled,
    cast_of_doubled,
    scale_of_doubled,
    unsqueeze_of_doubled,
    negation_of_half,
    negation_of_neighbour,
    swap_of_halves,
    swap_of_split,
    swap_of_neighbours,
    rotary_constant_tables,
    rotary_halves_of_tables,
    rotary_neighbours_of_tables,
    rotary_of_halves,
    rotary_of_neighbours,
    partial_rotary,
    partial_rotary_of_split,
    rotary_joins_heads,
    rms_norm_of_heads,
    layer_norm_of_heads,
)
