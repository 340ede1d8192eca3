"""Static int8: the activations' scale comes from calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.rule import Skip, op
from .symmetric import factor_int8


@method(
    kinds=("linear",), paper="Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, arXiv:1712.05877"
)
def static_int8(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ s_x (Q(x) − z)·Q(W) diag(s_W) + b, with s_x, z from the range that calibration saw.

    What falls outside that range saturates.
    """
    low, high = min(inputs.low, 0.0), max(inputs.high, 0.0)
    if not high > low:
        raise Skip("calibration saw nothing but zeros here")
    step = np.asarray((high - low) / 255, np.float32)
    zero = np.asarray(np.clip(round(-low / float(step)), 0, 255), np.uint8)
    codes, scale = factor_int8(place.weight, wide=place.wide)
    quantized = op.QuantizeLinear(X, step, zero)
    yield Form(
        "range seen in calibration",
        op("com.microsoft::MatMulIntegerToFloat")(quantized, codes, step, scale, zero, None, place.bias),
    )
