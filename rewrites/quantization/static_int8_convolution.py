"""Static int8 convolutions: input, weight and output in 8 bits, scales from calibration, bias corrected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.forms import activated
from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.approximate.write import attributes_of
from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, op
from .activation_range import least_squares_range
from .symmetric import kernel_int8


@method(
    kinds=("convolution",),
    paper="Nagel et al., Data-Free Quantization (bias correction), ICCV 2019, arXiv:1906.04721",
)
def static_int8_convolution(place: Place, inputs: Inputs) -> Iterator[Form]:
    """f(W∗x + b) ≈ D(Q(f(D(Q(W))∗D(Q(x)) + b′))), b′ = b − (D(Q(W)) − W)∗E[x]: the weights' error keeps no mean.

    D(Q(·)) is written out, as ONNX Runtime fuses it with the convolution into one on integers, and neighbours that
    agree on a tensor's scale share its codes. Weights: symmetric, a scale for each output channel.
    """
    yield int8_convolution(place, place.weight, inputs)


def int8_convolution(place: Place, weight: Array, inputs: Inputs, x: Term = X) -> Form:
    """The place on codes of `x`, its weight rounded from this one.

    Args:
        place: what is computed.
        weight: for `x`, laid out as the place's own.
        inputs: what calibration saw of `x`, and of the outputs.
        x: an expression of the place's input.

    Raises:
        Skip: nothing but zeros was seen.
    """
    ranges = [least_squares_range(arrays) for arrays in (inputs.arrays, inputs.outputs)]
    if any(found is None for found in ranges):
        raise Skip("calibration saw nothing but zeros here")
    (x_scale, x_zero), (y_scale, y_zero) = (found for found in ranges if found is not None)
    codes, scale = kernel_int8(weight, int(place.attributes.get("group", 1)), wide=place.wide)
    bias = _corrected_bias(place, weight, inputs, codes, scale)
    bias_scale = np.multiply(scale, x_scale, dtype=np.float32)
    bias_codes = np.clip(np.round(bias / bias_scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    term = op.Conv(
        op.DequantizeLinear(op.QuantizeLinear(x, x_scale, x_zero), x_scale, x_zero),
        op.DequantizeLinear(codes, scale, np.zeros(len(scale), np.int8), axis=0),
        op.DequantizeLinear(bias_codes, bias_scale, np.zeros(len(scale), np.int32), axis=0),
        **attributes_of(place),
    )
    result = activated(place, term)
    return Form(
        "input and output",
        op.DequantizeLinear(op.QuantizeLinear(result, y_scale, y_zero), y_scale, y_zero),
        timed=op.QLinearConv(
            X,
            x_scale,
            x_zero,
            codes,
            scale,
            np.zeros(len(scale), np.int8),
            y_scale,
            y_zero,
            bias_codes,
            **attributes_of(place),
        ),
    )


def _corrected_bias(place: Place, weight: Array, inputs: Inputs, codes: Array, scale: Array) -> Array:
    rounded = np.multiply(codes, scale.reshape(-1, *[1] * (weight.ndim - 1)), dtype=np.float32)
    error = np.subtract(rounded, weight).sum(axis=tuple(range(2, weight.ndim)))
    means = np.mean([a.mean(axis=(0, *range(2, a.ndim))) for a in inputs.arrays], axis=0)
    groups = int(place.attributes.get("group", 1))
    parts = means.reshape(groups, -1)
    shift = np.einsum("goi,gi->go", error.reshape(groups, -1, error.shape[1]), parts).reshape(-1)
    bias = np.zeros(len(weight), np.float32) if place.bias is None else place.bias
    return np.subtract(bias, shift, dtype=np.float64)
