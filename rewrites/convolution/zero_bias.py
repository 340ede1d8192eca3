"""A bias of zeros is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var

x, w, b, a = var("x w b a")


def require_zeros(b: Value) -> None:
    """Refuse other summands than zero.

    Raises:
        Skip: the value is computed, or not zero everywhere.
    """
    if not b.every(lambda array: not np.any(array)):
        raise Skip("the bias is not known to be zero")


@rule(
    op.Conv(x, w, b, attributes=a),
    drift="rounding",  # -0 + 0 is +0
    phase="canonicalise",
    peers="onnxscript",
    example={"x": "f32[2,3,5,5]", "w": "f32[4,3,3,3] const", "b": "f32[4] = 0", "a": {"pads": (1, 1, 1, 1)}},
    refuse=[
        {"x": "f32[2,3,5]", "w": "f32[2,3,3]", "b": "f32[2] = 0 1", "a": {}, "because": "zero"},
        {"x": "f32[2,3,5]", "w": "f32[2,3,3]", "b": "f32[2]", "a": {}, "because": "zero"},
    ],
)
def zero_bias_of_conv(x: Value, w: Value, b: Value, a: Mapping[str, Any]) -> Term:
    """Conv(x, w, 0) = Conv(x, w)."""
    require_zeros(b)
    return op.Conv(x, w, **a)


@rule(
    op.ConvTranspose(x, w, b, attributes=a),
    drift="rounding",
    phase="canonicalise",
    peers="onnxscript",
    example={"x": "f32[2,3,5,5]", "w": "f32[3,4,3,3] const", "b": "f32[4] = 0", "a": {"strides": (2, 2)}},
    refuse={"x": "f32[2,3,5]", "w": "f32[3,2,3]", "b": "f32[2] = 1", "a": {}, "because": "zero"},
)
def zero_bias_of_conv_transpose(x: Value, w: Value, b: Value, a: Mapping[str, Any]) -> Term:
    """ConvTranspose(x, w, 0) = ConvTranspose(x, w)."""
    require_zeros(b)
    return op.ConvTranspose(x, w, **a)
