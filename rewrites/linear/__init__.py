"""Matrix products with constants, and what stands around them."""

from __future__ import annotations

from ...compiler.rule import Rule
from .batch import linear_as_gemm, reshape_to_own_shape, residual_linear_as_gemm
from .bias import gemm_as_matmul_add, matmul_add_as_gemm, zero_bias_of_gemm
from .columns import (
    biased_linears_side_by_side,
    linears_side_by_side,
    slice_of_linear,
    sum_of_biased_linears,
    sum_of_columns,
    sum_of_linears,
)
from .consecutive_products import low_rank_update, product_from_the_left, product_from_the_right
from .constant_rows import constant_rows_after, constant_rows_before
from .embedding import linear_of_embedding, scaled_embedding, shifted_embedding
from .input_scale import divisor_before_matmul, scale_before_left_matmul, scale_before_matmul
from .input_shift import difference_before_matmul, shift_before_matmul
from .normalization_affine import layer_normalization_without_affine, rms_normalization_without_scale
from .output_scale import divisor_after_matmul, negated_matmul, scale_after_matmul
from .rows import linear_of_gathered_rows, linear_of_mean, linear_of_sliced_rows, mean_of_residual

RULES: tuple[Rule, ...] = (
    zero_bias_of_gemm,
    gemm_as_matmul_add,
    matmul_add_as_gemm,
    linear_as_gemm,
    residual_linear_as_gemm,
    reshape_to_own_shape,
    scale_after_matmul,
    divisor_after_matmul,
    negated_matmul,
    scale_before_matmul,
    divisor_before_matmul,
    scale_before_left_matmul,
    shift_before_matmul,
    difference_before_matmul,
    product_from_the_right,
    product_from_the_left,
    low_rank_update,
    sum_of_linears,
    sum_of_biased_linears,
    linears_side_by_side,
    biased_linears_side_by_side,
    slice_of_linear,
    sum_of_columns,
    linear_of_mean,
    mean_of_residual,
    linear_of_gathered_rows,
    linear_of_sliced_rows,
    layer_normalization_without_affine,
    rms_normalization_without_scale,
    constant_rows_before,
    constant_rows_after,
    linear_of_embedding,
    scaled_embedding,
    shifted_embedding,
)
