"""Two products with an activation between them on the device: every candidate, and parts in one order."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SIZES = [  # rows, inner, hidden, out
    (12544, 96, 384, 96),
    (50176, 96, 384, 96),
    (50700, 96, 384, 96),  # from here on groups of warps may walk by themselves, their matrices in a processor's memory
    (50801, 80, 328, 72),
    (50944, 64, 256, 64),
    (50176, 192, 768, 192),  # and blocks brought
    (33901, 136, 520, 200),
    (40001, 128, 512, 128),
    (35000, 256, 1024, 64),
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
    from tamago.backends.triton.library.convolution import GROUPED
    from tamago.backends.triton.tune_child import TOLERANCE

    for residual, activation, normed in ((True, "Gelu", False), (False, "Relu", False), (True, "Gelu", True)):
        job = MlpJob(rows, inner, hidden, out, dtype, residual, activation, normed)
        subject = job.subject(copies=1)
        wanted = subject.wanted
        grouped = torch.cuda.get_device_capability() == (9, 0) and rows > 33000 and hidden != 1536
        assert any(c[0] == GROUPED for c in job.candidates()) is grouped
        with own_counters():
            for candidate in job.candidates():
                found, again = subject.launch(0, candidate), subject.launch(0, candidate)
                error = float((found.double() - wanted).norm() / wanted.norm())
                assert error <= TOLERANCE[dtype], (job, candidate, error)
                assert torch.equal(found, again), (job, candidate)


@pytest.mark.parametrize(("rows", "inner", "hidden", "out"), SIZES)
def test_rows_far_from_zero_are_normalised_as_the_norm_s_own_kernel_does_it(
    rows: int, inner: int, hidden: int, out: int
) -> None:
    from tamago.backends.triton.counters import own_counters
    from tamago.backends.triton.jobs import MlpJob
    from tamago.backends.triton.launch.norm import launch_layer_norm
    from tamago.backends.triton.lowering import MLP

    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int, size: float = 1.0) -> torch.Tensor:
        return (size * torch.randn(shape, generator=generator, device="cuda")).half()

    x, scale, shift = 30 + draw(rows, inner), 1 + draw(inner), draw(inner)
    rest = draw(hidden, inner, size=inner**-0.5), draw(hidden), draw(out, hidden, size=hidden**-0.5), draw(out)
    normalised = launch_layer_norm(x, scale, shift, 1e-6, True, (1, 1))
    with own_counters():
        for candidate in MlpJob(rows, inner, hidden, out, "float16", False, "Gelu", True).candidates()[1:]:
            wanted = MLP(normalised, *rest, None, [], 0.0, "Gelu", list(candidate))
            found = MLP(x, *rest, None, [scale, shift], 1e-6, "Gelu", list(candidate))
            # Sums of a row in another order: where rounding to half falls to the other side, by a unit there.
            assert float((found - wanted).float().norm() / wanted.float().norm()) <= 1e-3, candidate
