"""Cross-layer equalisation: channels of one range before a convolution is rounded, the layer before undoing it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.fold_into_layers import layer_before
from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip, op
from .activation_range import least_squares_range
from .scaled_inputs import best_scales, sizes
from .static_int8_convolution import int8_convolution
from .symmetric import kernel_int8

STRENGTHS = (0.25, 0.5)  # 0.5 is the paper's


@method(
    kinds=("convolution",),
    paper="Nagel et al., Data-Free Quantization (weight equalization), ICCV 2019, arXiv:1906.04721",
)
def cross_layer_equalisation(place: Place, inputs: Inputs) -> Iterator[Form]:
    """W∗x + b ≈ Q(s·W)∗Q(x/s) + b, sᵢ = rᵢ^α / max|Wᵢ|^(1−α), rᵢ = max|xᵢ|, and 1/s goes into the layer that makes x.

    It is exact over the reals where Relu, LeakyRelu, PRelu, pooling or nothing is in between: f(y/s) = f(y)/s. The
    paper's r is the range of the weights that make xᵢ. Those have a scale for each channel here and lose nothing by
    their ranges; what gains is x, rounded to one scale for all channels. On trained networks that is little. Over
    ResNet-20, ResNet-56 and LPRNet the convolutions' squared error is 0.99, 1.08 and 1.11 times what it is without
    scales with the paper's r, 0.78, 1.21 and 0.73 times with this one (α = 0.5; geometric means). So it is offered
    where it helps, at 6, 6 and 11 places there, and the outputs' relative error stays what it was within about 1 %.
    """
    layer_before(place.x)
    groups = int(place.attributes.get("group", 1))
    seen = Inputs(tuple(np.moveaxis(a, 1, -1) for a in inputs.arrays))
    largest = sizes(np.abs(_by_input(place.weight, groups)).max(axis=1), "the weight holds")
    scale = best_scales(
        seen,
        seen.halves,
        STRENGTHS,
        lambda some, strength: sizes(some.peak) ** strength / largest ** (1 - strength),
        lambda some, scale: output_error(place.weight, groups, some.arrays, scale, wide=place.wide),
    )
    if scale is None:
        raise Skip("channels are alike in range: static_int8_convolution does as well")
    inverse = np.reciprocal(scale).astype(np.float32).reshape(-1, *[1] * (place.weight.ndim - 2))
    divided = Inputs(tuple(np.multiply(a, inverse) for a in inputs.arrays), inputs.outputs)
    yield int8_convolution(place, _multiplied(place.weight, scale, groups), divided, op.Mul(X, inverse))


def output_error(weight: Array, groups: int, arrays: tuple[Array, ...], scale: Floats, *, wide: bool) -> float:
    """Σᵢ ‖Wᵢ‖²·E(xᵢ − s·Q(x/s)ᵢ)² + ‖Wᵢ − Q(s·W)ᵢ/s‖²·E xᵢ²: errors of rounding are taken to be independent.

    Args:
        weight: [outputs, inputs/groups, …].
        groups: of the convolution.
        arrays: inputs, channels last.
        scale: for each input channel.
        wide: as for `factor_int8`.
    """
    x = np.concatenate([a.reshape(-1, len(scale)) for a in arrays])
    divided = np.divide(x, scale.astype(np.float32))
    found = least_squares_range((divided,))
    if found is None:
        return 0.0
    step, zero = np.float32(found[0]), np.float32(found[1])
    rounded = (np.clip(np.round(divided / step) + zero, 0, 255) - zero) * step * scale
    multiplied = _multiplied(weight, scale, groups)
    codes, steps = kernel_int8(multiplied, groups, wide=wide)
    rounded_weight = np.multiply(codes, steps.reshape(-1, *[1] * (weight.ndim - 1)))
    lost = _by_input(np.subtract(multiplied, rounded_weight), groups)
    by_input = _power(_by_input(weight, groups)) * np.square(np.subtract(x, rounded)).mean(axis=0)
    by_weight = _power(lost) / np.square(scale) * np.square(x, dtype=np.float64).mean(axis=0)
    return float(np.sum(by_input + by_weight))


def _power(rows: Array) -> Floats:
    return np.square(rows, dtype=np.float64).sum(axis=1)


def _by_input(weight: Array, groups: int) -> Array:
    """[outputs, inputs/groups, …] as [inputs, outputs/groups·…]."""
    parts = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return np.moveaxis(parts, 2, 1).reshape(groups * weight.shape[1], -1)


def _multiplied(weight: Array, scale: Floats, groups: int) -> Array:
    """s·W, a number for each input channel."""
    each = np.repeat(scale.reshape(groups, -1), len(weight) // groups, axis=0)
    return np.multiply(weight, each.reshape(len(weight), -1, *[1] * (weight.ndim - 2))).astype(np.float32)
