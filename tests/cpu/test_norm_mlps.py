"""LayerNorm and the two products that read it become one operator on a GPU: where, and what it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tamago.backends.triton import records
from tamago.backends.triton.jobs import LayerNormJob, MlpJob, fields_of, job_of
from tamago.backends.triton.regions import REGIONS, epilogues
from tamago.backends.triton.regions.mlps import fuse_mlps, mlp_places
from tamago.backends.triton.regions.norm_mlps import NormPlace, fuse_norm_mlps, norm_mlp_places
from tamago.backends.triton.run import Program
from tamago.compiler.approximate.costs import Run
from tamago.compiler.operators import attach
from tamago.compiler.store import Store
from tamago.compiler.timing import Timing
from tests.cpu.test_epilogues import PICTURE, ConvNeXt, check_equal, own, traced
from tests.triton.played import Played

SHAPE = (2, 5, 16)
PLACE = NormPlace("MLPReluAdd", 10, 16, 40, 16, "FLOAT16", ())


class Layer(nn.Module):
    """A transformer's feed-forward layer, or what is like it but for one thing."""

    def __init__(self, kind: str = "", *, epsilon: float = 1e-5, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16, eps=epsilon) if norm is None else norm
        self.up, self.down, self.kind = nn.Linear(16, 40), nn.Linear(40, 16), kind

    def forward(self, x: Tensor) -> Any:
        y = self.norm(x)
        to = y if self.kind == "past the norm" else x
        z = to + self.down(torch.relu(self.up(y)))
        return {"a result": (z, y), "read twice": (z, y.mean(-1))}.get(self.kind, z)


def fused(module: nn.Module, x: Tensor) -> ir.Model:
    """With epilogues, and each two products one."""
    model = epilogues(traced(module, x, optimised=False))
    assert model is not None
    for place in mlp_places(model):
        model = fuse_mlps(model, place) or model
    attach(model)
    return model


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()


def test_a_norm_and_the_products_that_alone_read_it_are_one() -> None:
    x = drawn(*SHAPE)
    model = fused(Layer(), x)

    found = fuse_norm_mlps(model, PLACE)

    assert norm_mlp_places(model) == [PLACE]
    assert found is not None
    assert own(found) == {"NormMLPReluAdd": 1}
    assert not any(n.op_type == "LayerNormalization" for n in found.graph)
    check_equal(model, found, x)
    assert norm_mlp_places(found) == []
    assert fuse_norm_mlps(found, PLACE) is None
    assert own(model) == {"MLPReluAdd": 1}


def test_repeated_layers_are_one_place_and_each_keeps_its_epsilon() -> None:
    x = drawn(*SHAPE)
    model = fused(nn.Sequential(Layer(), Layer(epsilon=0.25)), x)

    found = fuse_norm_mlps(model, PLACE)

    assert norm_mlp_places(model) == [PLACE]
    assert found is not None
    given = [n.attributes["epsilon"].as_float() for n in found.graph if n.op_type == "NormMLPReluAdd"]
    assert given == [pytest.approx(1e-5), 0.25]
    check_equal(model, found, x)


def test_a_depthwise_convolution_gives_its_norm_up() -> None:
    x = drawn(*PICTURE)
    model = fused(ConvNeXt(nn.ReLU()), x)
    (place,) = norm_mlp_places(model)

    found = fuse_norm_mlps(model, place)

    assert own(model) == {"ConvLayerNorm": 1, "MLPReluAdd": 1}
    assert place == NormPlace("MLPReluAdd", 60, 8, 32, 8, "FLOAT16", (PICTURE, (8, 1, 7, 7), (3, 3, 3, 3)))
    assert found is not None
    assert own(found) == {"Conv": 1, "NormMLPReluAdd": 1}
    check_equal(model, found, x)


@pytest.mark.parametrize("kind", ["a result", "read twice", "past the norm"])
def test_a_norm_that_something_else_reads_stays(kind: str) -> None:
    model = fused(Layer(kind), drawn(*SHAPE))

    assert own(model) == {"MLPReluAdd": 1}
    assert norm_mlp_places(model) == []


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(list(SHAPE[1:])), nn.RMSNorm(16), nn.LayerNorm(16, bias=False), nn.Identity()],
    ids=["two axes", "not centred", "not shifted", "none"],
)
def test_other_norms_stay(norm: nn.Module) -> None:
    model = fused(Layer(norm=norm), drawn(*SHAPE))

    assert own(model) == {"MLPReluAdd": 1}
    assert norm_mlp_places(model) == []


@pytest.mark.parametrize("convolved", [False, True])
def test_rows_whose_number_is_not_known_stay(convolved: bool) -> None:
    model = fused(ConvNeXt(nn.ReLU()), drawn(*PICTURE)) if convolved else fused(Layer(), drawn(*SHAPE))
    products = next(n for n in model.graph if n.op_type == "MLPReluAdd")
    assert len(norm_mlp_places(model)) == 1
    rows = products.inputs[0]
    assert rows is not None
    assert rows.shape is not None

    rows.shape = ir.Shape(["n", *rows.shape[1:]])

    assert norm_mlp_places(model) == []


def test_products_that_are_apart_stay() -> None:
    model = epilogues(traced(Layer(), drawn(*SHAPE), optimised=False))

    assert model is not None
    assert norm_mlp_places(model) == []


class Counted(Played):
    """A call costs one, and one of a view a tenth."""

    def _timed(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[Timing]:
        del seconds
        return [Timing((self._calls(run),) * 6) for run in runs]

    def _calls(self, run: Callable[[], object]) -> float:
        assert isinstance(run, Run)
        assert isinstance(run.program, Program)
        calls = [str(n.target) for n in run.program.module.graph.nodes if n.op == "call_function"]
        return sum(0.1 if "permute" in call or "transpose" in call else 1.0 for call in calls)


def test_it_is_offered_after_the_products_and_decided_by_the_whole_program() -> None:
    """One call less is won; beside a convolution there are as many, and a view more."""
    names = [region.name for region in REGIONS]
    offered = "a norm and two products in one"
    assert names.index(offered) > names.index("two products in one")
    for module, x, wanted in (
        (Layer(), drawn(*SHAPE), {"NormMLPReluAdd": 1}),
        (ConvNeXt(nn.ReLU()), drawn(*PICTURE), {"ConvLayerNorm": 1, "MLPReluAdd": 1}),
    ):
        model = traced(module, x, optimised=False)
        with Store.open(":memory:") as store:
            found, notes = Counted(store).finish(model, {model.graph.inputs[0].name or "": x.numpy()})

        assert own(found) == wanted
        assert sum(offered in note for note in notes) == 1


def test_the_job_is_read_from_the_call() -> None:
    model = fused(Layer(), drawn(*SHAPE))
    found = fuse_norm_mlps(model, PLACE)
    assert found is not None
    program = Program(found, device="cpu")
    sources = {n.name: n for n in found.graph}
    (call,) = program.module.graph.find_nodes(op="call_function", target=MlpJob.target)

    job = MlpJob.of_call(program.module, call, sources.get(call.meta["onnx"][2]))

    assert job == MlpJob(10, 16, 40, 16, "float16", True, "Relu", normed=True)
    assert job is not None
    assert job_of(fields_of(job)) == job
    assert str(job) == "mlp 10x16x40x16, float16, normed"
    assert call.args[MlpJob.settings] is None


def test_records_that_know_of_no_norm_are_those_of_rows_as_they_are() -> None:
    plain = MlpJob(10, 16, 40, 16, "float16", True, "Relu")
    other = LayerNormJob(10, 16, "float16", True, True)

    assert "normed" not in fields_of(plain)
    assert job_of(fields_of(plain)) == plain
    assert fields_of(other) == vars(other)
    assert str(plain) == "mlp 10x16x40x16, float16"
    shipped = [
        r["job"] for f in files(records).iterdir() if f.name.endswith(".json") for r in json.loads(f.read_text())
    ]
    products = [job for job in shipped if job["kernel"] == "mlp"]
    assert products
    assert all(fields_of(job_of(job)) == job for job in products)
