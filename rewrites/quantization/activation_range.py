"""The range of activations that costs least when it is cut into 256 steps."""

from __future__ import annotations

import numpy as np

from ...compiler.facts import Array

FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
BITS = 12  # of a scale
MOST = 1 << 18  # values that are looked at


def least_squares_range(arrays: tuple[Array, ...]) -> tuple[Array, Array] | None:
    """Scale (float32) and zero point (uint8) that minimise Σ (x − Q(x))² over shrunken ranges.

    Banner et al., Post-training 4-bit quantization, NeurIPS 2019, arXiv:1810.05723: cutting rare large values off buys
    a finer step for all others. Zero stays representable.

    Returns:
        None where all values are zero.
    """
    values = _values(arrays)
    low, high = min(float(values.min(initial=0)), 0.0), max(float(values.max(initial=0)), 0.0)
    if not high > low:
        return None
    tried = [_codes(low * f, high * f) for f in FRACTIONS]
    errors = [_error(values, scale, zero) for scale, zero in tried]
    return tried[int(np.argmin(errors))]


def _values(arrays: tuple[Array, ...]) -> Array:
    flat = [a.reshape(-1) for a in arrays]
    step = max(1, sum(len(a) for a in flat) // MOST)
    extremes = [np.asarray([a.min(), a.max()]) for a in flat if a.size]
    return np.concatenate([*(a[::step] for a in flat), *extremes]).astype(np.float32)


def _codes(low: float, high: float) -> tuple[Array, Array]:
    # Rounded up to few bits: two places find the range of one tensor, each from its own run, and should agree.
    mantissa, exponent = np.frexp((high - low) / 255)
    scale = np.asarray(np.ldexp(np.ceil(mantissa * 2**BITS) / 2**BITS, exponent), np.float32)
    return scale, np.asarray(np.clip(round(-low / float(scale)), 0, 255), np.uint8)


def _error(values: Array, scale: Array, zero: Array) -> float:
    offset = float(zero)
    codes = np.clip(np.round(np.divide(values, scale)) + offset, 0, 255)
    return float(np.sum(np.subtract(values, np.multiply(codes - offset, scale), dtype=np.float64) ** 2))
