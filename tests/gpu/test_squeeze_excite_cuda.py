"""Squeeze-and-excitation, that of convolutions too, and means over pixels, on the device.

Every candidate is right, and the same each time.
"""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SHAPES = [
    ((1, 32, 112, 112), 8),
    ((2, 33, 9, 14), 3),
    ((1, 672, 14, 14), 28),
    ((64, 240, 14, 14), 10),
    ((3, 1152, 7, 7), 48),
    ((64, 1152, 7, 7), 48),
    ((1, 960, 7, 7), 240),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("x", "squeezed"), SHAPES)
def test_every_candidate_of_squeeze_and_excitation_is_right(x: tuple[int, ...], squeezed: int, dtype: str) -> None:
    from tamago.backends.triton.jobs import SqueezeExciteJob
    from tamago.backends.triton.tune_child import TOLERANCE

    for activation, gate in (("Silu", "Sigmoid"), ("Relu", "HardSigmoid")):
        job = SqueezeExciteJob(x, squeezed, dtype, activation, gate)
        subject = job.subject(copies=1)
        wanted = subject.wanted
        for candidate in job.candidates():
            found = subject.launch(0, candidate)
            error = float((found.double() - wanted).norm() / wanted.norm())
            assert error <= TOLERANCE[dtype], (job, candidate, error)
            assert torch.equal(found, subject.launch(0, candidate)), (job, candidate)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("x", [*(s for s, _ in SHAPES), (64, 1280, 7, 7)])
def test_every_candidate_of_a_mean_is_right(x: tuple[int, ...], dtype: str) -> None:
    from tamago.backends.triton.jobs import MeanPixelsJob
    from tamago.backends.triton.tune_child import TOLERANCE

    job = MeanPixelsJob(x, dtype)
    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in job.candidates():
        found = subject.launch(0, candidate)
        error = float((found.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (job, candidate, error)
        assert torch.equal(found, subject.launch(0, candidate)), (job, candidate)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("x", "kernel", "strides", "pads", "squeezed"),
    [
        ((1, 32, 112, 112), (3, 3), (1, 1), (1, 1, 1, 1), 8),
        ((64, 240, 15, 13), (5, 5), (2, 2), (1, 2, 2, 1), 10),
        ((3, 1152, 7, 7), (5, 5), (1, 1), (2, 2, 2, 2), 48),
        ((2, 33, 9, 14), (3, 3), (1, 1), (1, 1, 1, 1), 3),
        ((64, 144, 29, 56), (3, 3), (1, 1), (1, 1, 1, 1), 6),
        ((64, 72, 15, 28), (5, 5), (1, 1), (2, 2, 2, 2), 18),
    ],
)
def test_every_candidate_of_a_depthwise_convolution_with_its_squeeze_is_right(
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    squeezed: int,
    dtype: str,
) -> None:
    from tamago.backends.triton.jobs import DepthwiseSqueezeJob
    from tamago.backends.triton.jobs.subject import relative_error
    from tamago.backends.triton.tune_child import TOLERANCE

    job = DepthwiseSqueezeJob(x, kernel, strides, pads, squeezed, dtype, "HardSwish", "Relu", "HardSigmoid")
    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in job.candidates():
        found = subject.launch(0, candidate)
        error = relative_error(found, wanted)
        # A quarter: what these operands make of sums that are three per cent off is more.
        assert error <= TOLERANCE[dtype] / 4, (job, candidate, error)
        assert all(map(torch.equal, found, subject.launch(0, candidate))), (job, candidate)
