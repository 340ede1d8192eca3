"""Attention over whole sequences on the device: every candidate is right, and so is a whole network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tamago

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

# texts, heads of keys, queries' heads for each, queries, keys, size, causal, mask, packed, merged
SHAPES = [
    (1, 6, 1, 197, 197, 64, False, (), True, True),
    (2, 2, 3, 77, 77, 72, True, (), True, True),
    (1, 4, 1, 1, 300, 64, False, (), True, False),
    (3, 2, 2, 129, 300, 16, False, (), False, False),
    (1, 2, 1, 256, 256, 128, True, (), False, False),
    (1, 2, 1, 70, 130, 256, False, (), False, False),
    (2, 4, 1, 100, 100, 64, False, (2, 1, 1, 100), True, True),
    (2, 2, 1, 100, 90, 64, False, (100, 90), True, False),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("batch", "heads", "shared", "queries", "keys", "size", "causal", "mask", "packed", "merged", "boolean"),
    [(*shape, boolean) for shape in SHAPES for boolean in ((False, True) if shape[7] else (False,))],
)
def test_every_candidate_of_attention_is_right(
    batch: int,
    heads: int,
    shared: int,
    queries: int,
    keys: int,
    size: int,
    causal: bool,
    mask: tuple[int, ...],
    packed: bool,
    merged: bool,
    boolean: bool,
    dtype: str,
) -> None:
    from tamago.backends.triton.jobs import AttentionJob
    from tamago.backends.triton.tune_child import TOLERANCE

    kind = ("bool" if boolean else dtype) if mask else ""
    job = AttentionJob(batch, heads, shared, queries, keys, size, dtype, causal, mask, kind, packed, merged)
    subject = job.subject(copies=1)
    wanted = subject.wanted
    for candidate in job.candidates():
        found = subject.launch(0, candidate)
        assert found.shape == wanted.shape
        error = float((found.double() - wanted).norm() / wanted.norm())
        assert error <= TOLERANCE[dtype], (job, candidate, error)


def test_every_tile_is_right() -> None:
    """Those, too, that no list of candidates of the shapes above has."""
    from tamago.backends.triton.kernels.attention import TILES
    from tamago.backends.triton.launch.attention import launch_attention
    from tamago.backends.triton.library.attention import attended

    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = torch.randn(2, 333, 3 * 256, generator=generator, device="cuda").half().split(256, 2)
    wanted = attended(q.double(), k.double(), v.double(), None, (4, 4), True, 0.3)
    for tile in TILES:
        found = launch_attention(q, k, v, None, (4, 4), True, 0.3, (*tile, 3))
        error = float((found.double() - wanted).norm() / wanted.norm())
        assert error <= 4e-3, (tile, error)


class Block(nn.Module):
    """Attention of four heads between two sums."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.v = nn.LayerNorm(256), *(nn.Linear(256, 256) for _ in range(3))
        self.out = nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).unflatten(2, (4, 64)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_a_network_s_error_is_that_of_its_own_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(Block(), Block()).eval()
    x = torch.randn(1, 197, 256, generator=torch.Generator().manual_seed(1)).half()
    half = nn.Sequential(Block(), Block()).eval().half()
    half.load_state_dict(block.state_dict())

    compiled = tamago.compile(half, (x,), target="cuda", store=tmp_path / "records.sqlite")

    with torch.no_grad():
        exact, eager = block.double().cuda()(x.double().cuda()), half.cuda()(x.cuda())
    found = compiled(x.cuda())
    assert "Attention" in compiled.report.after.operators, compiled.report.after
    error, own = (float((t.double() - exact).norm() / exact.norm()) for t in (found, eager))
    assert error <= 1.5 * own, (error, own)
