"""Two products with an activation between them become one operator on a GPU: where, and what it computes."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tamago.backends.triton.jobs import MlpJob, job_of
from tamago.backends.triton.regions import epilogues
from tamago.backends.triton.regions.mlps import Place, fuse_mlps, mlp_places
from tamago.backends.triton.run import Program
from tamago.compiler.operators import attach
from tests.cpu.test_epilogues import PICTURE, ConvNeXt, Feed, check_equal, own, traced


class Layers(nn.Module):
    """Feed-forward layers, two of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Feed(), Feed()])
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.down(torch.relu(self.up(x)))


class Read(nn.Module):
    """The hidden tensor has another reader, or is a result."""

    def __init__(self, *, given: bool) -> None:
        super().__init__()
        self.up, self.down, self.given = nn.Linear(16, 40), nn.Linear(40, 16), given

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.relu(self.up(x))
        return self.down(hidden), hidden if self.given else hidden.mean(-1)


def fused(module: nn.Module, x: Tensor, *, optimised: bool = False) -> ir.Model:
    """With epilogues; `optimised` makes a Gelu of its parts."""
    found = epilogues(traced(module, x, optimised=optimised))
    assert found is not None
    attach(found)
    return found


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()


def test_repeated_layers_are_one_place_and_each_place_is_fused_by_itself() -> None:
    x = drawn(2, 5, 16)
    model = fused(Layers(), x, optimised=True)

    places = mlp_places(model)

    twice, last = Place("GeluTanh", True, 10, 16, 40, 16, "FLOAT16"), Place("Relu", False, 10, 16, 24, 8, "FLOAT16")
    assert places == [twice, last]
    before = own(model)
    for place, wanted in ((twice, {"MLPGeluTanhAdd": 2, "AffineRelu": 1, "Affine": 1}), (last, {"MLPRelu": 1})):
        found = fuse_mlps(model, place)
        assert found is not None
        assert wanted.items() <= own(found).items()
        check_equal(model, found, x)
        assert place not in mlp_places(found)
        assert fuse_mlps(found, place) is None
    assert own(model) == before


def test_a_convnext_block_s_products_are_one_ahead_of_the_change_of_layout() -> None:
    x = drawn(*PICTURE)
    model = fused(ConvNeXt(nn.ReLU()), x)
    (place,) = mlp_places(model)

    found = fuse_mlps(model, place)

    assert found is not None
    assert place == Place("Relu", True, 60, 8, 32, 8, "FLOAT16")
    assert own(found) == {"ConvLayerNorm": 1, "MLPReluAdd": 1}
    check_equal(model, found, x)


@pytest.mark.parametrize("given", [False, True])
def test_a_hidden_tensor_that_something_else_reads_stays(given: bool) -> None:
    model = fused(Read(given=given), drawn(5, 16))

    assert own(model) == {"AffineRelu": 1, "Affine": 1}
    assert mlp_places(model) == []


class Apart(nn.Module):
    """No activation between two products, one after both, and one that is no second product's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.b(self.a(x))) * torch.relu(self.c(x))


def test_products_without_an_activation_between_them_stay() -> None:
    model = fused(Apart(), drawn(5, 16))

    assert own(model) == {"Affine": 1, "AffineSigmoid": 1, "AffineRelu": 1}
    assert mlp_places(model) == []


class Wide(nn.Module):
    """Sums of a row fill the registers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 768)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


def test_rows_too_wide_for_the_kernel_stay() -> None:
    assert mlp_places(fused(Wide(), drawn(3, 16))) == []


def test_the_job_is_read_from_the_call() -> None:
    model = fused(Feed(), drawn(2, 5, 16), optimised=True)
    found = fuse_mlps(model, mlp_places(model)[0])
    assert found is not None
    program = Program(found, device="cpu")
    sources = {n.name: n for n in found.graph}
    (call,) = program.module.graph.find_nodes(op="call_function", target=MlpJob.target)

    job = MlpJob.of_call(program.module, call, sources.get(call.meta["onnx"][2]))

    assert job == MlpJob(10, 16, 40, 16, "float16", True, "GeluTanh")
    assert job_of(vars(job)) == job
    assert str(job) == "mlp 10x16x40x16, float16"
    assert call.args[MlpJob.settings] is None
    assert MlpJob.of_call(program.module, call, None) is None
