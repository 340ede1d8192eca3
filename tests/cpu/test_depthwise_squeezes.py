"""Where a depthwise convolution and the squeeze of its result become one operator, and where they do not."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tamago.backends.triton.jobs import DepthwiseSqueezeJob, job_of
from tamago.backends.triton.layout import lay_out_weights
from tamago.backends.triton.library.convolution import LIBRARY
from tamago.backends.triton.regions.depthwise_squeezes import depthwise_squeezes
from tamago.backends.triton.regions.epilogues import epilogues
from tamago.backends.triton.regions.squeeze_excites import squeeze_excites
from tamago.backends.triton.run import Program
from tamago.compiler.ir import dims
from tests.cpu.test_separables import check_equal, own, traced


class Inverted(nn.Module):
    """EfficientNet's block."""

    def __init__(self, *, stride: int = 1, groups: int | None = None, width: int = 24, small: int = 6) -> None:
        super().__init__()
        self.expand = nn.Conv2d(8, width, 1)
        self.deep = nn.Conv2d(width, width, 3, stride, 1, groups=width if groups is None else groups)
        self.reduce, self.widen = nn.Conv2d(width, small, 1), nn.Conv2d(small, width, 1)
        self.project = nn.Conv2d(width, 8, 1)
        self.activation: nn.Module = nn.SiLU()
        self.gate: nn.Module = nn.Sigmoid()

    def weights(self, y: Tensor) -> Tensor:
        return self.gate(self.widen(nn.functional.silu(self.reduce(y.mean((2, 3), keepdim=True)))))

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.deep(self.activation(self.expand(x))))
        return self.project(y * self.weights(y))


class Mobile(Inverted):
    """MobileNetV3's."""

    def __init__(self) -> None:
        super().__init__(stride=2)
        self.activation, self.gate = nn.Hardswish(), nn.Hardsigmoid()

    def weights(self, y: Tensor) -> Tensor:
        return self.gate(self.widen(torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))))


class Shown(Inverted):
    """The convolution's result is one of the model's too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = self.activation(self.deep(self.activation(self.expand(x))))
        return y * self.weights(y), y


class Weights(Inverted):
    """What weighs the channels is a result."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = self.activation(self.deep(self.activation(self.expand(x))))
        s = self.weights(y)
        return self.project(y * s), s


class Before(Inverted):
    """What is squeezed is not yet activated."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.deep(self.activation(self.expand(x)))
        return self.project(self.activation(y) * self.weights(y))


def fused(module: nn.Module, *, half: bool = True) -> ir.Model:
    """The model after the fusions that come before."""
    model = traced(module, half=half)
    model = squeeze_excites(model) or model
    return epilogues(model) or model


@pytest.mark.parametrize(
    ("module", "wanted", "size"),
    [
        (Inverted(), "ConvSiluSqueezeExciteSiluSigmoid", (2, 24, 6, 5)),
        (Mobile(), "ConvHardSwishSqueezeExciteReluHardSigmoid", (2, 24, 3, 3)),
        (Shown(), "ConvSiluSqueezeExciteSiluSigmoid", (2, 24, 6, 5)),
        (Weights(), "ConvSiluSqueezeExciteSiluSigmoid", (2, 24, 6, 5)),
    ],
    ids=["efficientnet", "mobilenet", "output", "weights"],
)
def test_both_become_one_operator(module: nn.Module, wanted: str, size: tuple[int, ...]) -> None:
    model = fused(module)

    found = depthwise_squeezes(model)

    assert found is not None
    assert own(found)[1] == wanted
    assert not any(name.startswith("SqueezeExcite") for name in own(found))
    made = next(n for n in found.graph if n.op_type == wanted)
    assert [dims(v) for v in made.outputs] == [size, (2, 24, 1, 1)]
    check_equal(model, found)
    assert wanted not in own(model), "the model that was given is as it was"


def test_each_of_several_blocks_becomes_one() -> None:
    model = fused(nn.Sequential(Inverted(), Mobile()))

    found = depthwise_squeezes(model)

    assert found is not None
    assert sum(len(n.outputs) == 2 for n in found.graph) == 2
    check_equal(model, found)


@pytest.mark.parametrize(
    "module",
    [Before(), Inverted(groups=1), Inverted(small=257), Inverted(width=8)],
    ids=["activation", "dense", "wide", "narrow"],
)
def test_others_are_left_alone(module: nn.Module) -> None:
    model = fused(module)

    assert any(name.startswith("SqueezeExcite") for name in own(model))
    assert depthwise_squeezes(model) is None


def test_single_precision_is_left_alone() -> None:
    assert depthwise_squeezes(fused(Inverted(), half=False)) is None


def call_of(module: nn.Module) -> tuple[Program, ir.Node]:
    found = depthwise_squeezes(fused(module))
    assert found is not None
    return Program(found, device="cpu"), next(n for n in found.graph if len(n.outputs) == 2)


def test_it_is_measured_as_it_is_called() -> None:
    program, source = call_of(Inverted())
    (call,) = program.module.graph.find_nodes(op="call_function", target=DepthwiseSqueezeJob.target)

    job = DepthwiseSqueezeJob.of_call(program.module, call, source)

    fields = (3, 3), (1, 1), (1, 1, 1, 1), 6, "float16", "Silu", "Silu", "Sigmoid"
    assert job is not None
    assert job == DepthwiseSqueezeJob((2, 24, 6, 5), *fields)
    candidates = job.candidates()
    assert candidates[0][0] == LIBRARY
    assert {len(c) for c in candidates} == {len(candidates[0])}
    assert len(set(candidates)) == len(candidates)
    assert job_of({**vars(job), "kernel": "depthwise_squeeze"}) == job
    assert len(call.args) == DepthwiseSqueezeJob.settings + 1


@pytest.mark.parametrize("mine", [True, False])
def test_its_weights_lie_as_they_are_read(mine: bool) -> None:
    module = call_of(Inverted())[0].module
    (call,) = module.graph.find_nodes(op="call_function", target=DepthwiseSqueezeJob.target)
    call.update_arg(DepthwiseSqueezeJob.settings, [1 if mine else LIBRARY, *[1] * 10])

    lay_out_weights(module)

    for place in (1, 5):
        weight = module.get_buffer(str(call.args[place].target))
        assert weight.permute(1, 2, 3, 0).is_contiguous() is mine
