"""Layout: reshapes, transposes, slices and concatenations that cancel, merge or move out of the way."""

from __future__ import annotations

from ...compiler.rule import Rule
from . import (
    concat_of_slices,
    expand_past_elementwise,
    layout_past_quantization,
    reduction_axes,
    reduction_pair,
    reshape_past_concat,
    reshape_past_elementwise,
    reshape_past_normalization,
    reshape_past_reduction,
    slice_before_elementwise,
    slice_of_joined,
    split_as_slices,
    transpose_past_elementwise,
    transpose_past_layout,
    transpose_past_normalization,
    transpose_past_reduction,
)
from .blocks_as_depth import blocks_as_depth
from .concat_of_concat import concat_of_concat, concat_of_copies, concat_of_one, concat_with_nothing
from .expand_identity import (
    constant_of_shape_as_expand,
    expand_identity,
    expand_pair,
    expand_to_constant,
    tile_as_expand,
)
from .gather_as_slice import gather_as_slice, gather_nd_as_slice, slice_as_gather
from .global_pool import global_average_pool_as_mean
from .pad_pair import pad_identity, pad_pair
from .reshape_between_transposes import reshape_between_transposes, transpose_between_reshapes
from .reshape_constant import reshape_constant
from .reshape_pair import reshape_pair
from .reshape_past_matmul import (
    reshape_around_matmul,
    reshape_past_matmul,
    reshape_past_matmul_of_both,
    reshape_past_matmul_right,
)
from .reshape_past_slice import reshape_past_slice
from .resize_identity import pool_identity, resize_identity
from .scatter_nd_as_concat import scatter_nd_as_concat
from .shape_of_elementwise import shape_of_binary, shape_of_elementwise, shape_of_transpose
from .slice_before_matmul import slice_before_gather, slice_before_gemm, slice_before_matmul
from .slice_of_concat import slice_of_concat
from .slice_pair import slice_canonical, slice_pair
from .slices_as_transpose import slices_as_transpose
from .transpose_pair import transpose_as_reshape, transpose_pair
from .transpose_past_matmul import (
    transpose_into_gemm,
    transpose_into_gemm_right,
    transpose_past_matmul,
    transpose_past_matmul_of_both,
    transpose_past_matmul_right,
)
from .unsqueeze_pair import squeeze_of_unsqueeze, squeeze_pair, unsqueeze_pair
from .view_as_reshape import flatten_as_reshape, squeeze_as_reshape, unsqueeze_as_reshape

RULES: tuple[Rule, ...] = (
    squeeze_as_reshape,
    unsqueeze_as_reshape,
    flatten_as_reshape,
    reshape_constant,
    reshape_pair,
    unsqueeze_pair,
    squeeze_pair,
    squeeze_of_unsqueeze,
    transpose_pair,
    transpose_as_reshape,
    reshape_between_transposes,
    transpose_between_reshapes,
    *reshape_past_elementwise.RULES,
    *reshape_past_normalization.RULES,
    *reshape_past_reduction.RULES,
    *reshape_past_concat.RULES,
    reshape_past_matmul,
    reshape_around_matmul,
    reshape_past_matmul_right,
    reshape_past_matmul_of_both,
    *layout_past_quantization.RULES,
    *transpose_past_elementwise.RULES,
    *transpose_past_normalization.RULES,
    *transpose_past_reduction.RULES,
    *transpose_past_layout.RULES,
    transpose_past_matmul,
    transpose_past_matmul_right,
    transpose_past_matmul_of_both,
    transpose_into_gemm,
    transpose_into_gemm_right,
    *reduction_axes.RULES,
    *reduction_pair.RULES,
    global_average_pool_as_mean,
    slice_canonical,
    slice_pair,
    slice_of_concat,
    *split_as_slices.RULES,
    gather_as_slice,
    gather_nd_as_slice,
    slice_as_gather,
    scatter_nd_as_concat,
    concat_of_one,
    concat_with_nothing,
    concat_of_concat,
    concat_of_copies,
    *concat_of_slices.RULES,
    expand_identity,
    expand_to_constant,
    expand_pair,
    constant_of_shape_as_expand,
    tile_as_expand,
    *expand_past_elementwise.RULES,
    pad_identity,
    pad_pair,
    resize_identity,
    pool_identity,
    reshape_past_slice,
    *slice_before_elementwise.RULES,
    *slice_of_joined.RULES,
    slice_before_matmul,
    slice_before_gemm,
    slice_before_gather,
    slices_as_transpose,
    blocks_as_depth,
    shape_of_elementwise,
    shape_of_binary,
    shape_of_transpose,
)
