"""ONNX operators written in torch, a file for each family.

`registry.operator` enters a rule in the table `RULES`; a family takes part when it is listed here.
"""

from __future__ import annotations

from . import (
    activation,
    attention,
    constant,
    contrib_attention,
    contrib_linear,
    contrib_normalization,
    contrib_quantization,
    control_flow,
    conversion,
    convolution,
    elementwise,
    indexing,
    integers,
    legacy,
    linear,
    linear_attention,
    losses,
    normalization,
    padding,
    pooling,
    quantization,
    quantized_linear,
    random,
    recurrent,
    reduction,
    resize,
    selection,
    sequence,
    shape,
    spatial,
    spectral,
)
from .registry import RULES, Unsupported

FAMILIES = (
    activation,
    attention,
    constant,
    contrib_attention,
    contrib_linear,
    contrib_normalization,
    contrib_quantization,
    control_flow,
    conversion,
    convolution,
    elementwise,
    indexing,
    integers,
    legacy,
    linear,
    linear_attention,
    losses,
    normalization,
    padding,
    pooling,
    quantization,
    quantized_linear,
    random,
    recurrent,
    reduction,
    resize,
    selection,
    sequence,
    shape,
    spatial,
    spectral,
)

__all__ = ["FAMILIES", "RULES", "Unsupported"]
