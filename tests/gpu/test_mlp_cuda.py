"""Two products with an activation between them on the device: every candidate, and parts in one order."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SIZES = [  # rows, inner, hidden, out
    (12544, 96, 384, 96),
    (50176, 96, 384, 96),
    (6272, 192, 768, 192),
    (12608, 384, 1536, 384),
    (784, 192, 768, 192),
    (197, 384, 1536, 384),
    (33, 24, 100, 40),
    (1000, 128, 512, 65),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "inner", "hidden", "out"), SIZES)
def test_every_candidate_is_right(rows: int, inner: int, hidden: int, out: int, dtype: str) -> None:
    from tamago.backends.triton.counters import own_counters
    from tamago.backends.triton.jobs import MlpJob
    from tamago.backends.triton.tune_child import TOLERANCE

    for residual, activation in ((True, "Gelu"), (False, "Relu")):
        job = MlpJob(rows, inner, hidden, out, dtype, residual, activation)
        subject = job.subject(copies=1)
        wanted = subject.wanted
        with own_counters():
            for candidate in job.candidates():
                found, again = subject.launch(0, candidate), subject.launch(0, candidate)
                error = float((found.double() - wanted).norm() / wanted.norm())
                assert error <= TOLERANCE[dtype], (job, candidate, error)
                assert torch.equal(found, again), (job, candidate)
