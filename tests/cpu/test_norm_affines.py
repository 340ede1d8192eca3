"""LayerNorm and the product of few rows that reads it become one operator on a GPU: where, and what it computes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tamago.backends.triton.jobs import AffineJob, fields_of, job_of
from tamago.backends.triton.jobs.call import constant
from tamago.backends.triton.regions import epilogues, merged_linears
from tamago.backends.triton.regions.norm_affines import NormedPlace, fuse_norm_affines, norm_affine_places
from tamago.backends.triton.run import Program
from tamago.compiler.operators import attach
from tests.cpu.test_epilogues import check_equal, own, traced

SHAPE = (2, 5, 16)
PLACE = NormedPlace("AffineRelu", 10, 16, 40, "FLOAT16")


class Layer(nn.Module):
    """A normalised layer, or what is like it but for one thing."""

    def __init__(
        self,
        kind: str = "",
        *,
        bias: bool = True,
        epsilon: float = 1e-5,
        norm: nn.Module | None = None,
        width: int = 16,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=epsilon) if norm is None else norm
        self.up, self.beside, self.kind = nn.Linear(width, 40, bias=bias), nn.Linear(width, 40), kind
        self.back = nn.Linear(40, 16)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(x)
        z = self.up(y)
        if self.kind == "plain":
            return z
        if self.kind == "added":
            return z + self.beside(x)
        z = torch.relu(z)
        if self.kind == "back":
            return x + self.back(z)
        return {"a result": (z, y), "read twice": (z, y.mean(-1))}.get(self.kind, z)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()


def prepared(module: nn.Module, x: Tensor) -> ir.Model:
    """With epilogues."""
    model = traced(module, x, optimised=False)
    model = epilogues(model) or model
    attach(model)
    return model


@pytest.mark.parametrize(
    ("layer", "product"),
    [
        (Layer(), "AffineRelu"),
        (Layer("plain"), "Affine"),
        (Layer("plain", bias=False), "Affine"),
        (Layer("added"), "AffineAdd"),
    ],
    ids=["relu", "bias", "product alone", "added"],
)
def test_a_norm_and_the_product_that_alone_reads_it_are_one(layer: nn.Module, product: str) -> None:
    x = drawn(*SHAPE)
    model = prepared(layer, x)
    place = NormedPlace(product, 10, 16, 40, "FLOAT16")

    found = fuse_norm_affines(model, place)

    assert norm_affine_places(model) == [place]
    assert found is not None
    assert own(found)[f"Norm{product}"] == 1
    assert not any(n.op_type == "LayerNormalization" for n in found.graph)
    check_equal(model, found, x)
    assert norm_affine_places(found) == []
    assert fuse_norm_affines(found, place) is None


def test_repeated_layers_are_one_place_and_each_keeps_its_epsilon() -> None:
    x = drawn(*SHAPE)
    model = prepared(nn.Sequential(Layer("back"), Layer("back", epsilon=0.25)), x)

    found = fuse_norm_affines(model, PLACE)

    assert norm_affine_places(model) == [PLACE]
    assert found is not None
    given = [n.attributes["epsilon"].as_float() for n in found.graph if n.op_type == "NormAffineRelu"]
    assert given == [pytest.approx(1e-5), 0.25]
    check_equal(model, found, x)


def test_products_that_were_merged_take_in_the_norm_that_they_read() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.q, self.k = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(16, 24)

        def forward(self, x: Tensor) -> Any:
            y = self.norm(x)
            return self.q(y), self.k(y)

    x = drawn(*SHAPE)
    merged = merged_linears(traced(Both(), x, optimised=False))
    assert merged is not None
    model = epilogues(merged) or merged

    (place,) = norm_affine_places(model)
    found = fuse_norm_affines(model, place)

    assert place == NormedPlace("Affine", 10, 16, 48, "FLOAT16")
    assert found is not None
    check_equal(model, found, x)


@pytest.mark.parametrize("kind", ["a result", "read twice"])
def test_a_norm_that_something_else_reads_stays(kind: str) -> None:
    assert norm_affine_places(prepared(Layer(kind), drawn(*SHAPE))) == []


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(list(SHAPE[1:])), nn.RMSNorm(16), nn.LayerNorm(16, bias=False), nn.Identity()],
    ids=["two axes", "not centred", "not shifted", "none"],
)
def test_other_norms_stay(norm: nn.Module) -> None:
    assert norm_affine_places(prepared(Layer(norm=norm), drawn(*SHAPE))) == []


@pytest.mark.parametrize(("shape", "width"), [((40000, 16), 16), ((2, 1100), 1100)], ids=["many rows", "wide rows"])
def test_many_rows_and_wide_ones_stay(shape: tuple[int, ...], width: int) -> None:
    assert norm_affine_places(prepared(Layer(width=width), drawn(*shape))) == []


class Scaled(nn.Module):
    """A norm whose scale is computed from the input just ahead of it."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.full((16,), 0.5))
        self.up = nn.Linear(16, 40)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(nn.functional.layer_norm(x, (16,), x[0, 0] * 2 + 1, self.shift)))


def test_a_scale_that_is_computed_stays_as_the_kernel_would_read_it_too_early() -> None:
    model = prepared(Scaled(), drawn(*SHAPE))

    assert own(model) == {"AffineRelu": 1}
    assert norm_affine_places(model) == []


class Gemm(nn.Module):
    """A product whose bias is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 40)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.addmm(x[0, :1].expand(40) * 2, x, self.up.weight.T))


def test_settings_are_not_chosen_where_a_bias_is_computed() -> None:
    model = prepared(Gemm(), drawn(10, 16))
    program = Program(model, device="cpu")
    calls = program.module.graph.find_nodes(op="call_function", target=AffineJob.target)
    nodes = [n for n in model.graph if n.op_type.startswith("Affine")]

    assert len(calls) == len(nodes) == 1
    assert all(constant(program.module, c.args[2]) is None for c in calls)
    assert [AffineJob.of_call(program.module, c, n) for c, n in zip(calls, nodes, strict=True)] == [None] * len(calls)


def test_single_precision_stays() -> None:
    x = drawn(*SHAPE).float()
    model = traced(Layer(), x, optimised=False)

    assert norm_affine_places(epilogues(model) or model) == []


def test_the_job_is_read_from_the_call() -> None:
    model = fuse_norm_affines(prepared(Layer(), drawn(*SHAPE)), PLACE)
    assert model is not None
    program = Program(model, device="cpu")
    (call,) = program.module.graph.find_nodes(op="call_function", target=AffineJob.target)
    node = next(n for n in model.graph if n.op_type == "NormAffineRelu")

    job = AffineJob.of_call(program.module, call, node)

    assert job == AffineJob(10, 40, 16, "float16", False, "Relu", "", True)
    assert job is not None
    assert str(job) == "affine 10x16x40, float16, normed"
    assert list(call.args)[AffineJob.settings] is None
    assert job_of(fields_of(job)) == job


def test_a_record_of_rows_as_they_are_is_found_by_what_it_was_kept_as() -> None:
    """Fields that are newer than records say what they were without them."""
    job = AffineJob(10, 40, 16, "float16", True, "Relu", "")

    assert "normed" not in fields_of(job)
    assert job_of(fields_of(job)) == job
    assert fields_of(AffineJob(10, 40, 16, "float16", True, "Relu", "", True))["normed"] is True
