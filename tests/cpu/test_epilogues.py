"""What convolutions and products take in on a GPU: the operators, where they stand and what they compute."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.jobs import ConvolutionJob, DepthwiseJob
from tamago.backends.triton.layout import lay_out_weights
from tamago.backends.triton.regions import epilogues, merged_linears
from tamago.backends.triton.run import Program
from tamago.compiler.inference import infer
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.opset import to_target
from tamago.compiler.optimise import Settings, optimise
from tamago.compiler.prepare import prepare
from tamago.compiler.price import Prices
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tamago.rewrites import all_rules

TOLERANCE = 1e-2  # of the largest output: sums of halves in another order


class Inverted(nn.Module):
    """MobileNetV2's block, with MobileNetV3's and EfficientNet's weighing of channels."""

    def __init__(self, activation: nn.Module, *, weighs: bool = False, past: bool = True) -> None:
        super().__init__()
        self.expand, self.deep, self.project = (
            nn.Conv2d(8, 24, 1),
            nn.Conv2d(24, 24, 3, 1, 1, groups=24),
            nn.Conv2d(24, 8, 1),
        )
        self.down, self.up = nn.Conv2d(24, 4, 1), nn.Conv2d(4, 24, 1)
        self.activation, self.weighs, self.past = activation, weighs, past

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.deep(self.activation(self.expand(x))))
        if self.weighs:
            y = y * torch.sigmoid(self.up(self.activation(self.down(y.mean((2, 3), keepdim=True)))))
        y = self.project(y)
        return x + y if self.past else y


class ConvNeXt(nn.Module):
    """A block of Liu et al., 2022: two kernels' work on the way, and one that ends with the sum."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.deep, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8, eps=1e-6)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        return x + self.down(self.activation(self.up(y))).permute(0, 3, 1, 2)


class Basic(nn.Module):
    """ResNet's block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Feed(nn.Module):
    """A transformer's feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 40), nn.Linear(40, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(functional.gelu(self.up(x), approximate="tanh"))


class Read(nn.Module):
    """A result that two things read cannot be changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return torch.relu(y), y


PICTURE = (2, 8, 6, 5)
CASES: list[tuple[nn.Module, tuple[int, ...], dict[str, int]]] = [
    (Inverted(nn.ReLU6()), PICTURE, {"ConvRelu6": 2, "ConvAdd": 1}),
    (Inverted(nn.Hardswish(), past=False), PICTURE, {"ConvHardSwish": 2, "Conv": 1}),
    (Inverted(nn.SiLU(), weighs=True), PICTURE, {"ConvSilu": 3, "ConvSigmoid": 1, "ScaledConvAdd": 1}),
    (ConvNeXt(nn.GELU()), PICTURE, {"ConvLayerNorm": 1, "ConvGelu": 1, "ConvAdd": 1}),
    (Basic(), PICTURE, {"ConvRelu": 1, "ConvAddRelu": 1}),
    (Feed(), (2, 5, 16), {"AffineGeluTanh": 1, "AffineAdd": 1}),
    (Read(), PICTURE, {"Conv": 1}),
]


def traced(module: nn.Module, x: Tensor, *, optimised: bool = True) -> ir.Model:
    torch.manual_seed(0)
    model = trace(module.eval().to(x.dtype), (x,)).model
    prepare(model)
    to_target(model)
    infer(model)
    prices = Prices(Store.open(":memory:"), "tests")
    if optimised:  # Gelu is made of its parts
        optimise(model, Settings(rules=all_rules(), strict=True), prices, infer)
    return model


def own(model: ir.Model) -> dict[str, int]:
    return dict(Counter(n.op_type for n in model.graph if n.domain == DOMAIN))


@pytest.mark.parametrize(("module", "shape", "wanted"), CASES, ids=lambda v: type(v).__name__)
def test_what_is_done_to_a_result_is_part_of_the_operator(
    module: nn.Module, shape: tuple[int, ...], wanted: dict[str, int]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()
    model = traced(module, x)

    found = epilogues(model)

    assert found is not None
    assert own(found) == wanted
    check_equal(model, found, x)


def check_equal(model: ir.Model, found: ir.Model, x: Tensor) -> None:
    """The same outputs by the same names, in ONNX Runtime and as an FX program."""
    attach(found)
    reference = Plain(model, 1, optimise=False)
    feeds = {reference.inputs[0]: x.numpy()}
    for program in (Plain(found, 1), Program(found, device="cpu")):
        assert program.outputs == reference.outputs
        for a, b in zip(reference(feeds), program(feeds), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(b, a, rtol=0, atol=TOLERANCE * float(np.abs(a).max()))


class Normed(nn.Module):
    """A depthwise convolution whose normalised channels are activated: the activation stays outside."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.deep(x).permute(0, 2, 3, 1)))


def test_nothing_is_taken_in_after_a_norm() -> None:
    x = torch.randn(PICTURE, generator=torch.Generator().manual_seed(0)).half()
    model = traced(Normed(), x, optimised=False)

    found = epilogues(model)

    assert found is not None
    assert own(found) == {"ConvLayerNorm": 1}
    check_equal(model, found, x)


class Tied(nn.Module):
    """One matrix, several times."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.relu(self.linear(x))
        return x


def test_a_matrix_that_is_used_thrice_is_stored_once() -> None:
    model = traced(Tied(), torch.randn(2, 5, 16).half(), optimised=False)

    found = epilogues(model)

    assert found is not None
    assert own(found) == {"AffineRelu": 3}
    assert len({n.inputs[1] for n in found.graph if n.domain == DOMAIN}) == 1


def test_a_sum_beyond_a_change_of_layout_is_taken_in() -> None:
    x = torch.randn(PICTURE).half()
    model = traced(ConvNeXt(nn.ReLU()), x, optimised=False)

    found = epilogues(model)

    assert found is not None
    assert own(found) == {"ConvLayerNorm": 1, "AffineRelu": 1, "AffineAdd": 1}
    check_equal(model, found, x)


class Heads(nn.Module):
    """Three products of one value, and one of another."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 8, bias), nn.Linear(16, 4, bias), nn.Linear(16, 4, bias)
        self.o = nn.Linear(8, 16, bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.o(q * torch.cat((k, v), -1))


@pytest.mark.parametrize("bias", [False, True])
def test_products_of_one_value_are_one_product(bias: bool) -> None:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).half()
    model = traced(Heads(bias=bias), x, optimised=False)
    fused = epilogues(model) if bias else model
    assert fused is not None

    found = merged_linears(fused)

    assert found is not None
    kind = "Affine" if bias else "MatMul"
    assert [sum(n.op_type == kind for n in m.graph) for m in (fused, found)] == [4, 2]
    check_equal(model, found, x)
    assert merged_linears(found) is None


def test_single_precision_is_left_to_the_libraries() -> None:
    assert epilogues(traced(Basic(), torch.randn(PICTURE))) is None


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 16, 3, groups=8)],
    ids=["grouped", "dilated", "multiplied"],
)
def test_other_convolutions_stay(conv: nn.Module) -> None:
    assert epilogues(traced(nn.Sequential(conv, nn.ReLU()), torch.randn(PICTURE).half())) is None


def test_one_row_is_another_kernel_s() -> None:
    assert epilogues(traced(Feed(), torch.randn(1, 16).half())) is None


def test_a_product_alone_is_the_library_s() -> None:
    assert epilogues(traced(nn.Linear(16, 8, bias=False), torch.randn(5, 16).half())) is None


def test_half_precision_in_single_shows_what_rounding_costs() -> None:
    x = torch.randn(PICTURE, generator=torch.Generator().manual_seed(0)).half()
    module = Inverted(nn.SiLU(), weighs=True).half()
    model = traced(module, x)

    (single,) = Program(model, device="cpu", single=True).run([x])
    (half,) = Program(model, device="cpu").run([x])

    assert single.dtype == half.dtype == torch.float16
    with torch.no_grad():
        exact = module.double()(x.double())
    rounded = exact.half()
    assert float((single == rounded).double().mean()) > 0.98 > float((half == rounded).double().mean())


def test_jobs_are_read_from_the_calls_and_weights_laid_out_as_they_are_read() -> None:
    x = torch.randn(PICTURE, generator=torch.Generator().manual_seed(0)).half()
    found = epilogues(traced(Inverted(nn.ReLU6()), x))
    assert found is not None
    program = Program(found, device="cpu")
    (wanted,) = program.run([x])
    sources = {n.name: n for n in found.graph}
    jobs = [
        kind.of_call(program.module, call, sources.get(call.meta["onnx"][2]))
        for kind in (ConvolutionJob, DepthwiseJob)
        for call in program.module.graph.find_nodes(op="call_function", target=kind.target)
    ]

    assert [str(j) for j in jobs] == [
        "convolution 2x8x6x5, 24x8x1x1, float16",
        "convolution 2x24x6x5, 8x24x1x1, float16",
        "depthwise 2x24x6x5, 3x3, float16",
    ]
    for call in program.module.graph.find_nodes(op="call_function", target=DepthwiseJob.target):
        call.update_arg(DepthwiseJob.settings, [1, 1, 4, 32, 4])
    assert lay_out_weights(program.module)
    (deep,) = program.module.graph.find_nodes(op="call_function", target=DepthwiseJob.target)
    assert isinstance(deep.args[1], torch.fx.Node)
    weight = getattr(program.module, str(deep.args[1].target))
    assert weight.permute(2, 3, 0, 1).is_contiguous()
    assert torch.equal(program.run([x])[0], wanted)


def test_without_triton_the_target_still_says_what_it_needs() -> None:
    """Nothing that is imported to say so may itself need Triton."""
    blocked = "import sys; sys.modules['triton'] = None; import tamago.backends.triton.run as run; run.require_gpu()"
    said = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False).stderr

    assert "B02" in said, said
    assert "ModuleNotFoundError" not in said
