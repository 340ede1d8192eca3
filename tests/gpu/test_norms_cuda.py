"""Rows that are normalised on the device: every candidate, and a network with its norms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import tamago

if TYPE_CHECKING:
    from tamago.backends.triton.jobs import AffineJob

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("centred", "shifted"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize(("rows", "length"), [(197, 384), (196, 96), (3, 519), (1, 1), (2, 16384), (12608, 384)])
def test_every_candidate_of_a_norm_is_right(rows: int, length: int, centred: bool, shifted: bool, dtype: str) -> None:
    from tamago.backends.triton.jobs import LayerNormJob
    from tamago.backends.triton.tune_child import TOLERANCE

    job = LayerNormJob(rows, length, dtype, centred, shifted)
    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in job.candidates():
        # A row of one element is 0, and what is left of it the norm's own rounding.
        error = float((subject.launch(0, candidate).double() - wanted).norm() / wanted.norm().clamp(min=1e-3))
        assert error <= TOLERANCE[dtype], (job, candidate, error)


def check_replayed(job: AffineJob, candidates: Sequence[Sequence[int]]) -> None:
    """From a graph in which kernels start early, as often as there are copies, whose weights differ."""
    from tamago.backends.triton.counters import own_counters
    from tamago.backends.triton.early_starts import starting
    from tamago.backends.triton.tune_child import TOLERANCE

    subject = job.subject(copies=3)
    wanted = subject.wanted
    for candidate in candidates:
        with starting(early=True), own_counters():
            subject.launch(0, candidate)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = [subject.launch(copy, candidate) for copy in (1, 2, 0)][-1]
            graph.replay()
            error = float((found.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[job.dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "n", "k"), [(197, 1152, 384), (33, 40, 519), (128, 768, 768), (2, 16, 96)])
def test_every_candidate_of_a_product_of_normalised_rows_is_right(rows: int, n: int, k: int, dtype: str) -> None:
    from tamago.backends.triton.jobs import AffineJob

    for residual, activation, after in ((False, "Gelu", ""), (True, "", "Relu"), (False, "", "")):
        job = AffineJob(rows, n, k, dtype, residual, activation, after, normed=True)
        check_replayed(job, job.candidates())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "n", "k"), [(197, 384, 1536), (49, 768, 3072), (33, 40, 1024)])
def test_every_candidate_of_a_product_of_rows_in_parts_is_right(rows: int, n: int, k: int, dtype: str) -> None:
    from tamago.backends.triton.jobs import AffineJob
    from tamago.backends.triton.library.convolution import WHOLE

    for residual, activation, after in ((False, "Gelu", ""), (True, "", "Relu"), (False, "", "")):
        job = AffineJob(rows, n, k, dtype, residual, activation, after)
        in_parts = [c for c in job.candidates() if c[0] == WHOLE and c[-1] > 1]
        assert in_parts
        check_replayed(job, in_parts)


def test_kernels_that_start_early_wait_for_whatever_is_ahead_of_them() -> None:
    """Of torch, of cuBLAS and of ours, in one chain: bit for bit what they leave when none starts early."""
    from tamago.backends.triton.early_starts import starting
    from tamago.backends.triton.library.convolution import WHOLE
    from tamago.backends.triton.lowering import AFFINE, LAYER_NORM

    generator = torch.Generator().manual_seed(0)
    shapes = ((1536, 384), (384, 384), (384, 1536)) * 6
    weights = [(torch.randn(s, generator=generator) * s[1] ** -0.5).half().cuda() for s in shapes]
    given = torch.randn(197, 384, generator=generator).half().cuda()
    scale, shift, zeros = torch.ones(384).half().cuda(), torch.zeros(384).half().cuda(), torch.zeros(1536).half().cuda()

    def chain() -> Tensor:
        x = given
        for up, within, down in zip(weights[::3], weights[1::3], weights[2::3], strict=True):
            settings = [WHOLE, 16, 128, 8]
            hidden = AFFINE(x, up, zeros, None, [scale, shift], 1e-6, "Relu", "", settings)
            x = x + nn.functional.linear(hidden * 0.5, down)
            x = AFFINE(x, within, zeros[:384], x, [], 0.0, "", "", settings)
            x = LAYER_NORM(x, scale, shift, 1e-6, True, [1, 2])
        return x

    found: list[tuple[torch.cuda.CUDAGraph, Tensor]] = []
    for early in (False, True):
        with starting(early=early) as starts:
            chain()
            assert starts.asked == 18
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found.append((graph, chain()))
    (plain, wanted), (early_graph, result) = found
    plain.replay()
    for _ in range(200):
        result.zero_()
        early_graph.replay()
        assert torch.equal(result, wanted)


class Block(nn.Module):
    """A transformer's feed-forward layer ahead of which is a norm, and a norm whose result two things read."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.LayerNorm(48, eps=1e-6), nn.LayerNorm(48)
        self.up, self.down = nn.Linear(48, 192), nn.Linear(192, 48)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(x + self.down(nn.functional.gelu(self.up(self.norm(x)))))
        return y + torch.tanh(y)


def test_a_network_s_error_is_that_of_its_own_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = Block().eval()
    x = torch.randn(4, 50, 48, generator=torch.Generator().manual_seed(1))
    half = Block().eval().half()
    half.load_state_dict(block.state_dict())

    compiled = tamago.compile(half, (x.half(),), target="cuda", store=tmp_path / "records.sqlite")

    with torch.no_grad():
        exact, eager = block.double().cuda()(x.half().double().cuda()), half.cuda()(x.half().cuda())
    error, own = (float((t.double() - exact).norm() / exact.norm()) for t in (compiled(x.half().cuda()), eager))
    assert error <= 1.5 * own, (error, own)
