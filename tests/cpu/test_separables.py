"""Where a depthwise convolution and the 1x1 convolution that reads it become one operator, and where they do not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.jobs import SeparableJob, job_of
from tamago.backends.triton.layout import lay_out_weights
from tamago.backends.triton.library.convolution import LIBRARY
from tamago.backends.triton.regions.epilogues import epilogues
from tamago.backends.triton.regions.separables import fuse_separables, separable_places
from tamago.backends.triton.run import Program
from tamago.compiler.inference import infer
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.opset import to_target
from tamago.compiler.prepare import prepare
from tamago.compiler.trace import trace

TOLERANCE = 1e-2  # of the largest output: sums of halves in another order


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, inner: int = 24, *, out: int = 8, stride: int = 1, kernel: int = 3, taps: int = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(8, inner, 1)
        self.deep = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, out, taps, padding=taps // 2)
        self.activation = nn.ReLU6()
        self.past = stride == 1 and out == 8

    def between(self, x: Tensor) -> Tensor:
        return self.activation(self.deep(self.activation(self.expand(x))))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.between(x))
        return x + y if self.past else y


class Twice(Inverted):
    """What lies between has two readers."""

    def forward(self, x: Tensor) -> Tensor:
        between = self.between(x)
        return self.project(between) + between.mean((1, 2, 3), keepdim=True)


class Shown(Inverted):
    """What lies between is a result too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        between = self.between(x)
        return self.project(between), between


class Full(Inverted):
    """The first convolution is not depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(24, 24, 3, 1, 1)


class Rare(Inverted):
    """An activation between that no kernel of both knows."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.GELU()  # pyright: ignore[reportAttributeAccessIssue]


def fused(module: nn.Module, *, half: bool = True) -> ir.Model:
    """The model after `epilogues`, with shapes known."""
    model = traced(module, half=half)
    return epilogues(model) or model


def traced(module: nn.Module, *, half: bool = True) -> ir.Model:
    """The model with shapes known."""
    torch.manual_seed(0)
    model = trace(module.eval().to(torch.half if half else torch.float), (pictures(half=half),)).model
    prepare(model)
    to_target(model)
    infer(model)
    return model


def pictures(*, half: bool = True) -> Tensor:
    x = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0))
    return x.half() if half else x


def own(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph if n.domain == DOMAIN]


def check_equal(model: ir.Model, found: ir.Model) -> None:
    """The same outputs by the same names, in ONNX Runtime and as an FX program."""
    for m in (model, found):
        attach(m)
    reference = Plain(model, 1, optimise=False)
    feeds = {reference.inputs[0]: pictures().numpy()}
    for program in (Plain(found, 1), Program(found, device="cpu")):
        assert program.outputs == reference.outputs
        for wanted, y in zip(reference(feeds), program(feeds), strict=True):
            np.testing.assert_allclose(y, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (Inverted(), "SeparableRelu6ConvAdd"),
        (Inverted(out=16, stride=2), "SeparableRelu6Conv"),
        (Inverted(kernel=5), "SeparableRelu6ConvAdd"),
    ],
    ids=["sum", "stride", "kernel"],
)
def test_both_become_one_operator(module: nn.Module, wanted: str) -> None:
    model = fused(module)
    (place,) = separable_places(model)

    found = fuse_separables(model, place)

    assert found is not None
    assert own(found) == ["ConvRelu6", wanted]
    check_equal(model, found)


def test_repeated_blocks_are_one_place_and_others_another() -> None:
    model = fused(nn.Sequential(Inverted(), Inverted(16), Inverted(), Inverted(out=16)))
    places = separable_places(model)
    assert len(places) == 3

    first = fuse_separables(model, places[0])

    assert first is not None
    assert own(first).count("SeparableRelu6ConvAdd") == 2
    assert list(separable_places(first)) == list(places[1:])
    everything: ir.Model | None = first
    for place in places[1:]:
        assert everything is not None
        everything = fuse_separables(everything, place)
    assert everything is not None
    assert not separable_places(everything)
    check_equal(model, everything)
    assert fuse_separables(everything, places[0]) is None
    assert own(model).count("Conv") == 1, "the model that was given is as it was"


@pytest.mark.parametrize(
    "module",
    [Twice(), Shown(), Full(), Rare(), Inverted(kernel=7), Inverted(taps=3)],
    ids=["readers", "output", "full", "activation", "kernel", "taps"],
)
def test_others_are_left_alone(module: nn.Module) -> None:
    model = fused(module)

    assert any(name.startswith("Conv") for name in own(model))
    assert not separable_places(model)


def test_single_precision_is_left_alone() -> None:
    assert not separable_places(fused(Inverted(), half=False))


def test_it_is_measured_as_it_is_called() -> None:
    model = fused(Inverted())
    found = fuse_separables(model, separable_places(model)[0])
    assert found is not None
    program = Program(found, device="cpu")
    (call,) = program.module.graph.find_nodes(op="call_function", target=SeparableJob.target)
    source = next(n for n in found.graph if n.op_type == "SeparableRelu6ConvAdd")

    job = SeparableJob.of_call(program.module, call, source)

    assert job is not None
    fields = (True, "Relu6", "", "")
    assert job == SeparableJob((2, 24, 6, 5), (3, 3), 8, (1, 1), (1, 1, 1, 1), "float16", *fields)
    candidates = job.candidates()
    assert candidates[0][0] == LIBRARY
    assert {len(c) for c in candidates} == {len(candidates[0])}
    assert job_of({**vars(job), "kernel": "separable"}) == job
    assert len(call.args) == SeparableJob.settings + 1


@pytest.mark.parametrize("mine", [True, False])
def test_its_weights_lie_as_they_are_read(mine: bool) -> None:
    model = fused(Inverted())
    found = fuse_separables(model, separable_places(model)[0])
    assert found is not None
    module = Program(found, device="cpu").module
    (call,) = module.graph.find_nodes(op="call_function", target=SeparableJob.target)
    call.update_arg(SeparableJob.settings, [1 if mine else LIBRARY, *[1] * 8])

    lay_out_weights(module)

    weight = module.get_buffer(str(call.args[1].target))
    assert weight.permute(2, 3, 0, 1).is_contiguous() is mine


def test_convolutions_of_one_channel_are_not_two_things_at_once() -> None:
    module = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(3)))
    torch.manual_seed(0)
    model = trace(module.eval().half(), (pictures()[:, :1],)).model
    prepare(model)
    infer(model)
    found = epilogues(model)
    assert found is not None
    assert own(found) == ["Conv"] * 3

    assert not separable_places(found)
