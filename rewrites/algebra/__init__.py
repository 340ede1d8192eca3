"""Arithmetic: neutral elements, chains of constants, casts, choices, powers, bounds, reductions."""

from __future__ import annotations

from ...compiler.rule import Rule
from . import comparison_negated, idempotent, initial_state
from .cast_pair import cast_identity, cast_like, cast_pair
from .clip import (
    clip_below_zero,
    clip_of_relu,
    clip_pair,
    clip_without_bounds,
    max_of_zero,
    prelu_of_one_slope,
    relu_of_clip,
)
from .common_factor import difference_of_multiples, multiple_plus_same, multiples_of_same, sum_of_multiples
from .constant_chain import (
    constant_minus_difference,
    constant_minus_plus,
    constant_minus_sum,
    product_chain,
    product_of_scaled,
    quotient_of_scaled,
    scale_before_shift,
    scaled_quotient,
    sum_chain,
    sum_of_shifted,
)
from .constant_operand import divided_by_constant, divided_by_power_of_two, minus_constant
from .einsum import einsum_of_one, einsum_of_two
from .negation import (
    minus_negated,
    negated_difference,
    negated_product,
    negated_times_constant,
    plus_negated,
    product_of_negated,
    quotient_of_negated,
    times_minus_one,
    zero_minus,
)
from .neutral_element import (
    and_false,
    and_true,
    max_of_lowest,
    min_of_highest,
    minus_zero,
    or_false,
    or_true,
    plus_any_zero,
    plus_zero,
    times_one,
)
from .power import cube, inverse, square, square_of_abs
from .quantize_pair import quantize_of_dequantize
from .reciprocal import divide_rows, one_over, over_reciprocal, reciprocal_of_quotient, times_reciprocal
from .reduction import (
    mean_of_multiple,
    sum_of_multiple,
)
from .softmax import arg_max_of_softmax, log_softmax_twice
from .variadic import dropout, dropout_with_mask, identity, of_one, sum_of_two
from .where_constant import where_decided, where_not, where_one_zero, where_same, where_scaled

RULES: tuple[Rule, ...] = (
    identity,
    dropout,
    dropout_with_mask,
    of_one,
    sum_of_two,
    times_one,
    plus_zero,
    minus_zero,
    plus_any_zero,
    and_true,
    or_false,
    and_false,
    or_true,
    max_of_lowest,
    min_of_highest,
    *idempotent.RULES,
    cast_identity,
    cast_like,
    cast_pair,
    where_decided,
    where_same,
    where_not,
    where_one_zero,
    where_scaled,
    *comparison_negated.RULES,
    times_minus_one,
    negated_times_constant,
    negated_product,
    product_of_negated,
    quotient_of_negated,
    plus_negated,
    minus_negated,
    zero_minus,
    negated_difference,
    minus_constant,
    divided_by_power_of_two,
    divided_by_constant,
    product_chain,
    sum_chain,
    product_of_scaled,
    sum_of_shifted,
    constant_minus_plus,
    constant_minus_sum,
    constant_minus_difference,
    scaled_quotient,
    quotient_of_scaled,
    scale_before_shift,
    sum_of_multiples,
    difference_of_multiples,
    multiples_of_same,
    multiple_plus_same,
    square,
    cube,
    inverse,
    square_of_abs,
    one_over,
    times_reciprocal,
    over_reciprocal,
    reciprocal_of_quotient,
    divide_rows,
    max_of_zero,
    clip_below_zero,
    clip_without_bounds,
    clip_pair,
    clip_of_relu,
    relu_of_clip,
    prelu_of_one_slope,
    log_softmax_twice,
    arg_max_of_softmax,
    mean_of_multiple,
    sum_of_multiple,
    einsum_of_one,
    einsum_of_two,
    quantize_of_dequantize,
    *initial_state.RULES,
)
