"""HQQ: 4-bit weights whose scales and zero points suit most of a block rather than its outliers; needs no data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Skip
from .block_weights import n_bits, round_blocks

Floats = npt.NDArray[np.floating]

BITS, BLOCK = 4, 64
AT_ONCE = 1 << 22  # weights that are solved for at a time: it takes ten times the room of the weights themselves
NORM, BETA, KAPPA, STEPS = 0.7, 10.0, 1.01, 20  # the authors' settings


@method(
    kinds=("linear",),
    paper="Badri & Shaji, Half-Quadratic Quantization of Large Machine Learning Models, Mobius Labs 2023",
)
def hqq(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ x·s(Q − z) + b, with s, z of each block from min ‖E‖ₚᵖ + β/2 ‖W − s(Q − z) − E‖², p = 0.7.

    The kernel is fast only with whole zero points. Rounded, the authors' z at a fixed scale is nearly always the one it
    started from, so the scale is solved for as well, by the least squares that the zero point's mean comes from.
    """
    if place.shape[0] < BLOCK:
        raise Skip("a column is shorter than a block")
    codes, scale, zero = half_quadratic(place.weight)
    yield Form(f"{BITS} bit, blocks of {BLOCK}", n_bits(place, codes, scale, zero, BITS, BLOCK))


def half_quadratic(weight: Array) -> tuple[Array, Array, Array]:
    """Alternate between codes, outliers, zero points and scales; each block keeps its best by absolute error.

    Args:
        weight: [in, out].

    Returns:
        Codes [out, blocks, block] uint8, scales float32 and zero points uint8 [out, blocks].
    """
    width, outputs = weight.shape
    step = max(1, AT_ONCE // max(width, 1))
    parts = [_alternated(weight[:, start : start + step]) for start in range(0, outputs, step)]
    codes, scale, zero = (np.concatenate(p) for p in zip(*parts, strict=True))
    return codes, scale, zero


def _alternated(weight: Array) -> tuple[Array, Array, Array]:
    width, outputs = weight.shape
    codes, scale, zero = round_blocks(weight, BITS, BLOCK)
    padded = np.zeros((outputs, codes.shape[1] * BLOCK), np.float32)
    padded[:, :width] = weight.T
    parts = padded.reshape(-1, BLOCK)
    step = best_step = scale.reshape(-1, 1).astype(np.float32)
    origin = best_origin = zero.reshape(-1, 1).astype(np.float32)
    best_codes, least = codes.reshape(-1, BLOCK), np.full((len(parts), 1), np.inf, np.float32)
    for turn in range(STEPS):
        code = np.clip(np.round(parts / step) + origin, 0, 2**BITS - 1)
        error = parts - (code - origin) * step
        size = np.abs(error).sum(1, keepdims=True)
        better = size < least
        if not np.any(better):
            break
        least = np.where(better, size, least)
        best_step, best_origin = np.where(better, step, best_step), np.where(better, origin, best_origin)
        best_codes = np.where(better, code.astype(np.uint8), best_codes)
        wanted = parts - step * _outliers(error / step, BETA * KAPPA**turn)
        origin = np.clip(np.round(np.mean(code - wanted / step, axis=1, keepdims=True)), 0, 2**BITS - 1)
        step = _least_squares(code - origin, wanted, best_step)
    shape = scale.shape
    return best_codes.reshape(codes.shape), best_step.reshape(shape), best_origin.astype(np.uint8).reshape(shape)


def _outliers(error: Floats, beta: float) -> Floats:
    """Minimises |E|ᵖ + β/2 (E − e)², nearly: a soft threshold; e in steps, so that β means the same in every block."""
    size = np.maximum(np.abs(error), np.float32(1e-6))
    power = np.exp(np.log(size) * np.float32(NORM - 1))  # a tenth of the time of numpy's own power
    return np.copysign(np.maximum(size - power / np.float32(beta), 0), error)


def _least_squares(codes: Floats, wanted: Floats, otherwise: Floats) -> Floats:
    """The scale of each block; the one given where there is none."""
    power = np.einsum("bi,bi->b", codes, codes)[:, None]
    scale = np.einsum("bi,bi->b", codes, wanted)[:, None] / np.maximum(power, 1)
    return np.where(scale > 0, scale, otherwise)
