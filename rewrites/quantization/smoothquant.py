"""SmoothQuant: outliers that some inputs always have move into the weight, before both are rounded to int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .dynamic_int8 import dynamic_product
from .scaled_inputs import best_scales, divided, multiplied, sizes
from .symmetric import factor_int8

Singles = npt.NDArray[np.float32]

STRENGTHS = (0.5, 0.65, 0.75, 0.85)  # 0.5 and 0.75 are the paper's; activations with more outliers need more


@method(kinds=("linear",), paper="Xiao et al., SmoothQuant, ICML 2023, arXiv:2211.10438")
def smoothquant(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ Q(x/s)·Q(s·W) + b in int8, sᵢ = max|xᵢ|^α / max|Wᵢ|^(1−α), with the α of the least error.

    x/s has one step for all of it, found when the program runs, which an outlier widens no longer.
    """
    weight, rows = place.weight, sizes(np.abs(place.weight).max(axis=1), "the weight holds")
    wanted: list[Array] = []

    def error(seen: Inputs, scale: Floats) -> float:
        if not wanted:  # one half judges all scales
            wanted.extend(np.matmul(_rows(array, weight), weight) for array in seen.arrays)
        return output_error(weight, seen.arrays, wanted, scale, wide=place.wide)

    scale = best_scales(
        inputs,
        inputs.halves,
        STRENGTHS,
        lambda seen, strength: sizes(seen.peak) ** strength / rows ** (1 - strength),
        error,
    )
    if scale is None:
        raise Skip("no input has outliers that scales would help with: dynamic_int8 does as well")
    product = dynamic_product(divided(scale), multiplied(weight, scale), place.bias, wide=place.wide)
    yield Form("one scale for the tensor", product)


def output_error(
    weight: Array, arrays: Sequence[Array], wanted: Sequence[Array], scale: Floats, *, wide: bool
) -> float:
    """Σ‖x·W − Q(x/s)·Q(s·W)‖², the step of x/s that of each sample.

    Args:
        weight: W.
        arrays: x of each sample.
        wanted: x·W of each.
        scale: s.
        wide: as for `factor_int8`.
    """
    rounded = np.multiply(*factor_int8(multiplied(weight, scale), wide=wide))
    total = 0.0
    for array, exact in zip(arrays, wanted, strict=True):
        error = np.subtract(rounded_to_256(_rows(array, weight) / scale.astype(np.float32)) @ rounded, exact)
        total += float(np.sum(np.square(error, dtype=np.float64)))
    return total


def _rows(array: Array, weight: Array) -> Singles:
    return array.reshape(-1, len(weight)).astype(np.float32, copy=False)


def rounded_to_256(x: Singles) -> Singles:
    """As DynamicQuantizeLinear has it: steps between the least and the largest, zero among them."""
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    step = np.float32((high - low) / 255 or 1.0)
    zero = np.float32(round(-low / float(step)))
    return (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
