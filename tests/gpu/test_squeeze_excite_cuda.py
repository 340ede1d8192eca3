"""Squeeze-and-excitation and means over pixels on the device: every candidate is right, and the same each time."""

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
