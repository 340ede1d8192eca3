"""Convolutions and products of many rows on the device: every candidate, whole networks, and torch.compile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tamago

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

CONVOLUTIONS = [
    ((2, 24, 14, 15), (40, 24, 1, 1), (1, 1), (0, 0, 0, 0), False, False),
    ((1, 64, 9, 9), (64, 64, 3, 3), (1, 1), (1, 1, 1, 1), False, False),
    ((2, 3, 17, 16), (16, 3, 3, 3), (2, 2), (0, 0, 1, 1), False, True),
    ((3, 48, 7, 7), (32, 48, 1, 1), (1, 1), (0, 0, 0, 0), True, False),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("x", "w", "strides", "pads", "scaled", "first"), CONVOLUTIONS)
def test_every_candidate_of_a_convolution_is_right(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    scaled: bool,
    first: bool,
    dtype: str,
) -> None:
    from tamago.backends.triton.jobs import ConvolutionJob
    from tamago.backends.triton.tune_child import TOLERANCE

    for residual, activation, after in ((False, "Silu", ""), (True, "", "Relu")):
        job = ConvolutionJob(x, w, strides, pads, dtype, scaled, residual, activation, after, first)
        subject = job.subject(copies=1)
        wanted = subject.wanted
        for candidate in job.candidates():
            found = subject.launch(0, candidate)
            error = float((found.double() - wanted).norm() / wanted.norm())
            assert error <= TOLERANCE[dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "n", "k"), [(197, 384, 96), (33, 40, 1536)])
def test_every_candidate_of_a_product_of_many_rows_is_right(rows: int, n: int, k: int, dtype: str) -> None:
    from tamago.backends.triton.jobs import AffineJob
    from tamago.backends.triton.tune_child import TOLERANCE

    for residual, activation in ((False, "Gelu"), (False, "GeluTanh"), (True, "")):
        job = AffineJob(rows, n, k, dtype, residual, activation, "")
        subject = job.subject(copies=1)
        wanted = subject.wanted
        for candidate in job.candidates():
            error = float((subject.launch(0, candidate).double() - wanted).norm() / wanted.norm())
            assert error <= TOLERANCE[dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize(("k", "n"), [(520, 1544), (519, 1541)], ids=["sixteen bytes", "two"])
@pytest.mark.parametrize(
    ("residual", "activation", "after"),
    [(False, "", ""), (False, "Relu", ""), (False, "GeluTanh", ""), (True, "", ""), (True, "", "Relu")],
)
def test_every_product_that_the_library_proposes_is_right(
    residual: bool, activation: str, after: str, k: int, n: int, pictures: bool, dtype: str
) -> None:
    from tamago.backends.triton.jobs import AffineJob, ConvolutionJob
    from tamago.backends.triton.library.convolution import LT
    from tamago.backends.triton.tune_child import TOLERANCE

    fused = dtype, residual, activation, after
    job = AffineJob(300, n, k, *fused)
    if pictures:
        job = ConvolutionJob((5, k, 6, 10), (n, k, 1, 1), (1, 1), (0, 0, 0, 0), dtype, False, *fused[1:], False)
    subject = job.subject(copies=1)
    wanted = subject.wanted
    asked = [c for c in job.candidates() if c[0] == LT]
    assert asked
    for candidate in asked:
        found = subject.launch(0, candidate)
        error = float((found.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize(("residual", "activation", "after"), [(False, "Gelu", ""), (True, "", "Relu")])
def test_every_product_that_the_copying_engine_feeds_is_right(
    pictures: bool, residual: bool, activation: str, after: str, dtype: str
) -> None:
    """Replayed from a graph; no size is a multiple of a tile."""
    from tamago.backends.triton.jobs import AffineJob, ConvolutionJob
    from tamago.backends.triton.library.convolution import TMA
    from tamago.backends.triton.tune_child import TOLERANCE

    fused = dtype, residual, activation, after
    job = AffineJob(3005, 1544, 520, *fused)
    if pictures:
        geometry = (5, 520, 24, 26), (1544, 520, 1, 1), (1, 1), (0, 0, 0, 0)
        job = ConvolutionJob(*geometry, dtype, False, residual, activation, after, False)
    found = [c for c in job.candidates() if c[0] == TMA]
    assert bool(found) is (torch.cuda.get_device_capability() == (9, 0))

    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in found:
        subject.launch(0, candidate)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = subject.launch(0, candidate)
        y.zero_()
        graph.replay()
        error = float((y.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(
    ("x", "kernel", "strides", "pads"),
    [
        ((2, 96, 14, 14), (7, 7), (1, 1), (3, 3, 3, 3)),
        ((1, 384, 7, 7), (7, 7), (1, 1), (3, 3, 3, 3)),
        ((1, 40, 15, 13), (3, 3), (2, 2), (0, 0, 1, 1)),
        ((64, 40, 31, 29), (5, 5), (2, 2), (1, 2, 2, 1)),
    ],
)
def test_every_candidate_of_a_depthwise_convolution_is_right(
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    normed: bool,
    dtype: str,
) -> None:
    from tamago.backends.triton.jobs import DepthwiseJob
    from tamago.backends.triton.tune_child import TOLERANCE

    job = DepthwiseJob(x, kernel, strides, pads, dtype, normed, "" if normed else "HardSwish")
    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in job.candidates():
        error = float((subject.launch(0, candidate).double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (job, candidate, error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("x", "kernel", "strides", "pads"),
    [
        ((3, 96, 29, 27), (7, 7), (1, 1), (3, 3, 3, 3)),
        ((2, 33, 31, 16), (5, 5), (1, 1), (2, 2, 2, 2)),
        ((5, 40, 30, 29), (5, 5), (2, 2), (1, 2, 2, 1)),
        ((2, 144, 15, 56), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((1, 96, 33, 57), (3, 3), (2, 2), (0, 0, 1, 1)),
        ((4, 72, 3, 5), (7, 5), (2, 1), (4, 2, 5, 2)),
    ],
)
def test_every_program_that_slides_is_right(
    x: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, int], pads: tuple[int, ...], dtype: str
) -> None:
    """And twice the same, whether or not others keep it from being a candidate; all rows of a picture, or fewer."""
    from tamago.backends.triton.jobs import DepthwiseJob
    from tamago.backends.triton.kernels import sliding_settings
    from tamago.backends.triton.kernels.depthwise_walks import SLIDING, SLIDING_AHEAD
    from tamago.backends.triton.library.convolution import slid
    from tamago.backends.triton.tune_child import TOLERANCE

    (n, channels), (height, width) = x[:2], slid(x[2:], kernel, strides, pads)
    sizes = n * height * width, width, height, channels, kernel, strides
    found = [
        (right, rows, *tile, walk)
        for _, (right, down, *tile, _) in sliding_settings.ranked(*sizes, summed=False)[::5]
        for rows in (down, height)
        for walk in (SLIDING, SLIDING_AHEAD)
    ]
    assert found

    subject = DepthwiseJob(x, kernel, strides, pads, dtype, False, "Silu").subject(copies=1)
    wanted = subject.wanted
    for candidate in found:
        y = subject.launch(0, candidate)
        error = float((y.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (candidate, error)
        assert torch.equal(y, subject.launch(0, candidate)), candidate


class Block(nn.Module):
    """An inverted residual block with weighed channels, and a ConvNeXt block."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.deep = nn.Conv2d(16, 48, 1), nn.Conv2d(48, 48, 3, 1, 1, groups=48)
        self.down, self.up, self.project = nn.Conv2d(48, 8, 1), nn.Conv2d(8, 48, 1), nn.Conv2d(48, 16, 1)
        self.wide, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16)
        self.first, self.second = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.deep(functional.silu(self.expand(x))))
        y = y * torch.sigmoid(self.up(functional.silu(self.down(y.mean((2, 3), keepdim=True)))))
        x = x + self.project(y)
        z = self.norm(self.wide(x).permute(0, 2, 3, 1))
        return x + self.second(functional.gelu(self.first(z))).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "records.sqlite"


@pytest.fixture(scope="module")
def block() -> nn.Module:
    torch.manual_seed(0)
    return Block().eval()


def test_a_network_s_error_is_that_of_its_own_precision(block: nn.Module, store: Path) -> None:
    x = torch.randn(4, 16, 14, 14, generator=torch.Generator().manual_seed(1))
    half = Block().eval().half()
    half.load_state_dict(block.state_dict())

    compiled = tamago.compile(half, (x.half(),), target="cuda", store=store)

    with torch.no_grad():
        exact, eager = block.double().cuda()(x.half().double().cuda()), half.cuda()(x.half().cuda())
    found = compiled(x.half().cuda())
    assert found.is_cuda
    assert any(n.startswith("ai.tamago::Conv") for n in compiled.report.after.operators), compiled.report.after
    error, own = (float((t.double() - exact).norm() / exact.norm()) for t in (found, eager))
    assert error <= 1.5 * own, (error, own)


def test_torch_compile_runs_on_the_gpu_what_lies_there(store: Path) -> None:
    torch.manual_seed(0)
    module = Block().eval().half().cuda()
    x = torch.randn(2, 16, 14, 14).half().cuda()
    fast = torch.compile(module, backend="tamago", options={"store": str(store)})

    with torch.no_grad():
        wanted, found, again = module(x), fast(x), fast(x)

    assert found.is_cuda
    assert torch.equal(found, again)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-2
