"""Rounding that is written for speed gives what the formulas give, one number after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tamago.rewrites.quantization.block_weights import round_blocks, steps
from tamago.rewrites.quantization.gptq import error_feedback, round_in_order
from tamago.rewrites.quantization.hqq import NORM, _outliers  # pyright: ignore[reportPrivateUsage]

Array = np.ndarray[Any, Any]


def weights(width: int, outputs: int, seed: int = 0) -> Array:
    return (0.05 * np.random.default_rng(seed).standard_normal((width, outputs))).astype(np.float32)


def inputs(width: int, rows: int, seed: int = 1) -> Array:
    mixing = np.random.default_rng(seed + 1).standard_normal((width, width)) * np.arange(1, width + 1) ** -0.5
    return np.random.default_rng(seed).standard_normal((rows, width)) @ mixing + 0.3


def one_after_the_other(weight: Array, factor: Array, block: int) -> tuple[Array, Array, Array]:
    """GPTQ as it is written down: each input's error goes to all that come later at once."""
    width, outputs = weight.shape
    blocks = -(-width // block)
    rest = weight.astype(np.float64)
    codes = np.zeros((blocks * block, outputs), np.uint8)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    for i in range(width):
        b = i // block
        if i % block == 0:
            part = rest[i : i + block].astype(np.float32)
            _, scale, zero = round_blocks(part, 4, len(part))
            scales[b], zeros[b] = scale[:, 0], zero[:, 0]
            codes[i : i + block] = zeros[b]
        step, origin = scales[b].astype(np.float64), zeros[b].astype(np.float64)
        codes[i] = np.clip(np.round(rest[i] / step) + origin, 0, 15)
        error = (rest[i] - (codes[i] - origin) * step) / factor[i, i]
        rest[i + 1 :] -= factor[i, i + 1 :, None] * error
    return np.ascontiguousarray(codes.T).reshape(outputs, blocks, block), scales.T, zeros.T


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize(("width", "outputs"), [(128, 40), (200, 7), (160, 1), (1, 3), (17, 5), (33, 2)])
@pytest.mark.parametrize("rows", [512, 9])
def test_errors_made_up_for_together_give_the_codes_of_one_after_the_other(
    width: int, outputs: int, block: int, rows: int
) -> None:
    weight, x = weights(width, outputs), inputs(width, rows)
    factor = error_feedback(x.T @ x / rows)

    found, wanted = (f(weight, factor, block) for f in (round_in_order, one_after_the_other))

    assert all(np.array_equal(a, b) for a, b in zip(found[::2], wanted[::2], strict=True))
    assert found[1] == pytest.approx(wanted[1], rel=1e-6)


def test_a_weight_of_zeros_and_inputs_that_are_never_there_are_rounded_alike() -> None:
    x = inputs(96, 64)
    x[:, 10:40] = 0.0
    weight = weights(96, 6)
    weight[:, 2] = 0.0
    weight[20:60] = 0.0
    factor = error_feedback(x.T @ x / 64)

    found, wanted = (f(weight, factor, 32) for f in (round_in_order, one_after_the_other))

    assert all(np.array_equal(a, b) for a, b in zip(found[::2], wanted[::2], strict=True))
    assert found[1] == pytest.approx(wanted[1], rel=1e-6)


@pytest.mark.parametrize(("least", "largest"), [(-1.0, 2.0), (0.5, 2.0), (-2.0, -0.5), (0.0, 0.0), (-1e-30, 1e-30)])
def test_the_steps_of_a_block_are_those_of_its_rounding(least: float, largest: float) -> None:
    block = np.linspace(least, largest, 32, dtype=np.float32)[:, None]

    _, scale, zero = round_blocks(block, 4, 32)
    found = steps(block.min(axis=0), block.max(axis=0), 4)

    assert np.array_equal(found[0], scale[:, 0])
    assert np.array_equal(found[1], zero[:, 0])


@pytest.mark.parametrize("beta", [10.0, 12.1])
def test_the_soft_threshold_is_that_of_the_power(beta: float) -> None:
    error = np.concatenate([-np.geomspace(1e-9, 50, 500), [0.0, -0.0], np.geomspace(1e-9, 50, 500)]).astype(np.float32)
    size = np.maximum(np.abs(error.astype(np.float64)), np.float64(np.float32(1e-6)))
    wanted = np.sign(error) * np.maximum(size - size ** (NORM - 1) / beta, 0)

    found = _outliers(error, beta)

    assert found.dtype == np.float32
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
