"""GPTQ: 4-bit weights rounded one input after the other, what comes later making up for the errors so far."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import solve_triangular

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .block_weights import fitting, n_bits, steps

BITS = 4
BLOCKS = (32, 128)
AT_ONCE = 16  # inputs whose errors are made up for one by one; those of more are a product of matrices
DAMP = 0.01  # of the mean of H's diagonal, added to it


@method(kinds=("linear",), paper="Frantar et al., GPTQ, ICLR 2023, arXiv:2210.17323")
def gptq(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ x·Ŵ + b, row i of W rounded, then Wⱼ ← Wⱼ − (Wᵢ − Ŵᵢ)·Uᵢⱼ/Uᵢᵢ for j > i, with UᵀU = (E[xxᵀ] + λ)⁻¹.

    Each block's scale and zero point are those of its values once the errors of all earlier blocks are in them.
    """
    blocks = fitting(BLOCKS, place.shape[0])
    factor = error_feedback(inputs.second_moment)
    for block in blocks:
        codes, scale, zero = round_in_order(place.weight, factor, block)
        yield Form(f"{BITS} bit, blocks of {block}", n_bits(place, codes, scale, zero, BITS, block))


def error_feedback(moment: Array) -> Array:
    """U, upper triangular in float64, with UᵀU = (H + λ)⁻¹; an input that is always zero takes no part.

    With J the exchange of the order of rows, J(H + λ)J = LLᵀ gives U = J·L⁻¹·J: no inverse of H is formed.

    Raises:
        Skip: calibration saw nothing to weigh errors by.
    """
    second = np.asarray(moment, np.float64)
    power = np.diagonal(second)
    if not np.all(np.isfinite(second)):
        raise Skip("calibration saw values that are not finite")
    alive = power > 0
    if not np.any(alive):
        raise Skip("calibration saw nothing but zeros here")
    mean = float(np.mean(power))
    damped = second + np.diag(np.where(alive, DAMP * mean, mean))
    lower = np.linalg.cholesky(damped[::-1, ::-1])
    inverse = solve_triangular(lower, np.eye(len(lower)), lower=True)
    return np.ascontiguousarray(inverse[::-1, ::-1])


def round_in_order(weight: Array, factor: Array, block: int) -> tuple[Array, Array, Array]:
    """Round the inputs one after the other, all outputs at once.

    Args:
        weight: [in, out].
        factor: of `error_feedback`.
        block: inputs that share a scale.

    Returns:
        Codes [out, blocks, block] uint8, scales float32 and zero points uint8 [out, blocks].
    """
    width, outputs = weight.shape
    blocks = -(-width // block)
    rest, feedback = weight.astype(np.float64), np.asarray(factor, np.float64)
    codes = np.empty((blocks * block, outputs), np.uint8)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    for b in range(blocks):
        start, end = b * block, min((b + 1) * block, width)
        part = rest[start:end].astype(np.float32)
        scales[b], zeros[b] = steps(part.min(axis=0), part.max(axis=0), BITS)
        codes[start : start + block] = zeros[b]  # beyond the last input: nothing
        errors = _round_block(rest[start:end], feedback[start:end, start:end], codes[start:end], scales[b], zeros[b])
        rest[end:] -= feedback[start:end, end:].T @ errors
    packed = np.ascontiguousarray(codes.T).reshape(outputs, blocks, block)
    return packed, np.ascontiguousarray(scales.T), np.ascontiguousarray(zeros.T)


def _round_block(rest: Floats, factor: Floats, codes: Array, scale: Array, zero: Array) -> Floats:
    """Fill one block's codes; the errors that later blocks make up for, in units of the factor's diagonal."""
    if len(rest) > AT_ONCE:
        middle = len(rest) // 2
        before = _round_block(rest[:middle], factor[:middle, :middle], codes[:middle], scale, zero)
        rest[middle:] -= factor[:middle, middle:].T @ before
        after = _round_block(rest[middle:], factor[middle:, middle:], codes[middle:], scale, zero)
        return np.concatenate([before, after])
    step, origin = scale.astype(np.float64), zero.astype(np.float64)
    errors = np.empty_like(rest)
    for i in range(len(rest)):
        code = np.clip(np.round(rest[i] / step) + origin, 0, 2**BITS - 1)
        codes[i] = code
        errors[i] = (rest[i] - (code - origin) * step) / factor[i, i]
        rest[i + 1 :] -= factor[i, i + 1 :, None] * errors[i]
    return errors
