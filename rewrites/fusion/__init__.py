"""Operators that ONNX has, recognised in what exporters write: normalisations, activations, reductions, softmax."""

from __future__ import annotations

from ...compiler.rule import Rule
from . import reduce_axes, reduce_keepdims
from .clip import clip
from .elu import celu, elu, selu
from .gelu import complementary_erf, erf_argument, gelu, gelu_of_halves
from .gelu_tanh import gelu_cube, gelu_polynomial, gelu_polynomial_multiplied_out, gelu_sigmoid, gelu_tanh
from .hard_sigmoid import gated_by_hard_sigmoid, hard_sigmoid, hard_sigmoid_of_line, hard_swish
from .layer_norm import centred_first, layer_norm, layer_norm_bias, layer_norm_scale
from .leaky_relu import leaky_relu_of_max, leaky_relu_of_where, prelu_of_abs, prelu_of_two_relus
from .mean_square import mean_of_power, mean_of_squares, mean_of_sum, mean_square_is_positive, variance_of_moments
from .norm_cast import layer_norm_cast, rms_norm_cast
from .reciprocal_square_root import one_over_root, power_of_a_half, root_of_reciprocal
from .reduce_norms import length, squared_magnitude, sum_of_magnitudes, sum_of_squares
from .rms_norm import length_norm, rms_norm, rms_norm_scale
from .sigmoid import over_one_plus_exponential, sigmoid, sigmoid_of_tanh, softsign, swish_gate
from .softmax import (
    log_softmax,
    log_softmax_of_difference,
    log_softmax_shift,
    log_sum_exp,
    log_sum_exp_shift,
    softmax,
    softmax_shift,
)
from .softplus import mish, softplus, softplus_threshold, softplus_threshold_scaled

RULES: tuple[Rule, ...] = (
    *reduce_axes.RULES,
    *reduce_keepdims.RULES,
    power_of_a_half,
    one_over_root,
    root_of_reciprocal,
    mean_of_sum,
    mean_of_squares,
    mean_of_power,
    variance_of_moments,
    mean_square_is_positive,
    rms_norm,
    length_norm,
    rms_norm_scale,
    rms_norm_cast,
    layer_norm,
    layer_norm_scale,
    layer_norm_bias,
    layer_norm_cast,
    centred_first,
    erf_argument,
    complementary_erf,
    gelu,
    gelu_of_halves,
    gelu_cube,
    gelu_polynomial,
    gelu_polynomial_multiplied_out,
    gelu_tanh,
    gelu_sigmoid,
    sigmoid,
    over_one_plus_exponential,
    sigmoid_of_tanh,
    swish_gate,
    softsign,
    softplus,
    softplus_threshold,
    softplus_threshold_scaled,
    mish,
    hard_sigmoid,
    hard_sigmoid_of_line,
    gated_by_hard_sigmoid,
    hard_swish,
    elu,
    selu,
    celu,
    leaky_relu_of_max,
    leaky_relu_of_where,
    prelu_of_two_relus,
    prelu_of_abs,
    clip,
    softmax,
    softmax_shift,
    log_softmax,
    log_softmax_shift,
    log_softmax_of_difference,
    log_sum_exp,
    log_sum_exp_shift,
    sum_of_squares,
    length,
    sum_of_magnitudes,
    squared_magnitude,
)
