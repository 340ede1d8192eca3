"""A depthwise convolution and the one that reads it in one kernel, on the device: every candidate is right."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SAME = (1, 1, 1, 1)
SHAPES = [
    ((2, 32, 20, 21), (3, 3), 16, (1, 1), SAME),
    ((2, 144, 15, 13), (3, 3), 24, (2, 2), SAME),
    ((1, 96, 14, 14), (5, 5), 40, (2, 1), (2, 1, 1, 2)),
    ((64, 384, 14, 14), (3, 3), 96, (1, 1), SAME),
    ((1, 960, 7, 7), (3, 3), 320, (1, 1), SAME),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("x", "kernel", "out", "strides", "pads"), SHAPES)
def test_every_candidate_is_right(
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    out: int,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dtype: str,
) -> None:
    from tamago.backends.triton.jobs import SeparableJob
    from tamago.backends.triton.tune_child import TOLERANCE

    for residual, first, activation, after in ((True, "Relu6", "", ""), (False, "Silu", "Silu", "")):
        job = SeparableJob(x, kernel, out, strides, pads, dtype, residual, first, activation, after)
        subject = job.subject(copies=1)
        wanted = subject.wanted
        for candidate in job.candidates():
            error = float((subject.launch(0, candidate).double() - wanted).norm() / wanted.norm())
            assert error <= TOLERANCE[dtype], (job, candidate, error)
