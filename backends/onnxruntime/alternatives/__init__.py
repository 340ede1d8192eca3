"""Operators that only ONNX Runtime has, offered where its CPU provider has a kernel; the price decides."""

from __future__ import annotations

from ....compiler.rule import Rule
from .bias_gelu import bias_gelu
from .fused_matmul import scaled_operand, scaled_product, transposed_left, transposed_right
from .quick_gelu import quick_gelu
from .sum_before_layer_norm import sum_before_layer_norm

RULES: tuple[Rule, ...] = (
    quick_gelu,
    bias_gelu,
    sum_before_layer_norm,
    transposed_left,
    transposed_right,
    scaled_product,
    scaled_operand,
)
