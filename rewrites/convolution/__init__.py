"""Rules about convolutions, pooling and the normalisations that stand among them."""

from __future__ import annotations

from ...compiler.rule import Rule
from . import channels_last
from .activations import (
    elu_by_exponential,
    mish_by_exponential,
    prelu_as_leaky_relu,
    prelu_by_minimum,
    selu_by_exponential,
)
from .batch_normalization import (
    affine_as_batch_normalization,
    batch_normalization_as_affine,
    batch_normalization_of_last_axis,
)
from .box_kernel import average_pool_after_conv, conv_after_nearest_upsampling
from .channels_of_result import mean_of_channels, slice_of_conv, sum_of_channels
from .consecutive_convs import conv_after_pointwise, pointwise_after_conv
from .conv1d import (
    average_pool1d_as_average_pool2d,
    conv1d_as_conv2d,
    max_pool1d_as_max_pool2d,
    pad_channels_to_blocks,
)
from .conv_of_concat import conv_of_concat, pointwise_conv_of_reshape
from .global_pooling import average_of_whole_input, max_as_global_max, max_of_whole_input, mean_as_global_average
from .group_normalization import group_normalization_as_instance_normalization
from .input_scale import conv_of_negated, divisor_before_conv, scale_before_conv, scale_before_conv_transpose
from .input_shift import difference_before_conv, shift_before_conv
from .instance_normalization import (
    instance_normalization_of_moments,
    scale_after_instance_normalization,
    shift_after_instance_normalization,
)
from .one_position import conv_of_one_position
from .output_scale import divisor_after_conv, negated_conv, scale_after_conv, scale_after_conv_transpose
from .output_shift import conv_subtracted, difference_after_conv, shift_after_conv, shift_after_conv_transpose
from .padding import (
    padding_before_average_pool,
    padding_before_conv,
    padding_before_max_pool,
    zeros_before_max_pool,
)
from .parallel_convs import (
    conv_plus_input,
    conv_plus_scaled_input,
    conv_plus_shifted,
    convs_side_by_side,
    sum_of_convs,
)
from .pointwise_after_pooling import (
    pointwise_after_average_pool,
    pointwise_after_global_average,
    pointwise_after_mean,
)
from .resize import pointwise_before_upsampling
from .scale_of_branches import scale_of_concat, scale_of_sum_of_convs, shift_of_concat
from .zero_bias import zero_bias_of_conv, zero_bias_of_conv_transpose

RULES: tuple[Rule, ...] = (
    prelu_as_leaky_relu,
    prelu_by_minimum,
    mish_by_exponential,
    elu_by_exponential,
    selu_by_exponential,
    zero_bias_of_conv,
    zero_bias_of_conv_transpose,
    padding_before_conv,
    padding_before_max_pool,
    zeros_before_max_pool,
    padding_before_average_pool,
    batch_normalization_as_affine,
    batch_normalization_of_last_axis,
    affine_as_batch_normalization,
    scale_after_conv,
    divisor_after_conv,
    negated_conv,
    scale_after_conv_transpose,
    shift_after_conv,
    difference_after_conv,
    conv_subtracted,
    shift_after_conv_transpose,
    scale_before_conv,
    divisor_before_conv,
    conv_of_negated,
    scale_before_conv_transpose,
    shift_before_conv,
    difference_before_conv,
    pointwise_after_conv,
    conv_after_pointwise,
    mean_as_global_average,
    max_as_global_max,
    average_of_whole_input,
    max_of_whole_input,
    pointwise_after_global_average,
    pointwise_after_mean,
    pointwise_after_average_pool,
    pointwise_before_upsampling,
    conv_of_one_position,
    conv1d_as_conv2d,
    pad_channels_to_blocks,
    max_pool1d_as_max_pool2d,
    average_pool1d_as_average_pool2d,
    conv_after_nearest_upsampling,
    average_pool_after_conv,
    *channels_last.RULES,
    group_normalization_as_instance_normalization,
    instance_normalization_of_moments,
    scale_after_instance_normalization,
    shift_after_instance_normalization,
    sum_of_convs,
    conv_plus_input,
    conv_plus_scaled_input,
    conv_plus_shifted,
    convs_side_by_side,
    slice_of_conv,
    sum_of_channels,
    mean_of_channels,
    conv_of_concat,
    pointwise_conv_of_reshape,
    scale_of_concat,
    shift_of_concat,
    scale_of_sum_of_convs,
)
