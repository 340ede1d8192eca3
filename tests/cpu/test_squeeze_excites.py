"""Where squeeze-and-excitation and means over pixels become operators of their own, and where they do not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.alternatives import RULES
from tamago.backends.triton.jobs import MeanPixelsJob, SqueezeExciteJob, job_of
from tamago.backends.triton.layout import lay_out_weights
from tamago.backends.triton.library.convolution import LIBRARY
from tamago.backends.triton.regions.epilogues import epilogues
from tamago.backends.triton.regions.squeeze_excites import squeeze_excites
from tamago.backends.triton.run import Program
from tamago.compiler.inference import infer
from tamago.compiler.ir import dims, static_dims
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.opset import to_target
from tamago.compiler.optimise import Settings, optimise
from tamago.compiler.prepare import prepare
from tamago.compiler.price import Prices
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tamago.rewrites import all_rules

LOVED = ("MatMul", "Gemm", f"{DOMAIN}::Linear", f"{DOMAIN}::LinearAdd")
TOLERANCE = 1e-2  # of the largest output: sums of halves in another order


class Weighed(nn.Module):
    """The end of an inverted residual block."""

    def __init__(self, activation: nn.Module | None = None, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.reduce, self.expand, self.project = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 8, 1)
        self.activation, self.gate = activation or nn.SiLU(), gate or nn.Sigmoid()

    def mean(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def weights(self, x: Tensor) -> Tensor:
        return self.gate(self.expand(self.activation(self.reduce(self.mean(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x * self.weights(x))


class Pooled(Weighed):
    """As torchvision writes it, and without a bias."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU(), nn.Hardsigmoid())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(16, 4, 1, bias=False)

    def mean(self, x: Tensor) -> Tensor:
        return self.pool(x)


class Shown(Weighed):
    """The mean has another reader."""

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x * self.weights(x)) + self.mean(x)[:, :8]


class Padded(Weighed):
    """The second layer makes more of its one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(4, 16, 1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(x)


class Grouped(Weighed):
    """The first layer is of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(16, 4, 1, groups=2)


class Rows(Weighed):
    """The mean is one over the rows alone."""

    def mean(self, x: Tensor) -> Tensor:
        return x.mean(2, keepdim=True)


class Flat(Weighed):
    """As SENet writes it: products of rows, the second without a bias."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU())
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        rows = self.up(self.activation(self.down(x.mean((2, 3)))))
        return self.gate(rows).view(*rows.shape, 1, 1)


class Turned(Flat):
    """The channels of two pictures change places on the way."""

    def weights(self, x: Tensor) -> Tensor:
        rows = self.up(self.activation(self.down(x.mean((2, 3)).view(16, 2).t())))
        return self.gate(rows).view(*rows.shape, 1, 1)


class End(nn.Module):
    """A network's: a mean, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.mean((2, 3)))


def pictures(batch: int = 2, *, half: bool = True) -> Tensor:
    x = torch.randn(batch, 16, 6, 5, generator=torch.Generator().manual_seed(0)) + 1
    return x.half() if half else x


def traced(module: nn.Module, batch: int = 2, *, half: bool = True) -> ir.Model:
    torch.manual_seed(0)
    model = trace(module.eval().to(torch.half if half else torch.float), (pictures(batch, half=half),)).model
    prepare(model)
    to_target(model)
    infer(model)
    return model


def own(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph if n.domain == DOMAIN]


def check_equal(model: ir.Model, found: ir.Model) -> None:
    """The same outputs by the same names, in ONNX Runtime and as an FX program."""
    attach(found)
    reference = Plain(model, 1, optimise=False)
    shape = static_dims(model.graph.inputs[0])
    assert shape is not None
    feeds = {reference.inputs[0]: pictures(shape[0]).numpy()}
    for program in (Plain(found, 1), Program(found, device="cpu")):
        assert program.outputs == reference.outputs
        for wanted, y in zip(reference(feeds), program(feeds), strict=True):
            np.testing.assert_allclose(y, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (Weighed(), "SqueezeExciteSiluSigmoid"),
        (Pooled(), "SqueezeExciteReluHardSigmoid"),
        (Weighed(nn.Hardswish()), "SqueezeExciteHardSwishSigmoid"),
        (Flat(), "SqueezeExciteReluSigmoid"),
    ],
    ids=["efficientnet", "mobilenet", "hard swish", "rows"],
)
def test_all_of_it_becomes_one_operator(module: nn.Module, wanted: str) -> None:
    model = traced(module)

    found = squeeze_excites(model)

    assert found is not None
    assert own(found) == [wanted]
    made = next(n for n in found.graph if n.domain == DOMAIN)
    assert dims(made.outputs[0]) == (2, 16, 1, 1)
    fused = epilogues(found)
    assert fused is not None
    assert own(fused) == [wanted, "ScaledConv"]
    check_equal(model, fused)
    assert not own(model), "the model that was given is as it was"


@pytest.mark.parametrize("batch", [1, 2])
def test_it_is_found_in_what_the_choice_made_of_it(batch: int) -> None:
    model = traced(Weighed(), batch=batch)
    chosen = model.clone()
    prices = Prices(Store.open(":memory:"), "tests", preferences=dict.fromkeys(LOVED, 1e-3))
    optimise(chosen, Settings((*all_rules(), *RULES)), prices, infer)
    assert any(n.op_type in ("MatMul", "Gemm", "Linear", "LinearAdd") for n in chosen.graph)

    found = squeeze_excites(chosen)

    assert found is not None
    assert "SqueezeExciteSiluSigmoid" in own(found)
    check_equal(model, found)


@pytest.mark.parametrize(
    "module",
    [
        *(Shown(), Padded(), Grouped(), Rows(), Turned(), End()),
        *(Weighed(nn.GELU()), Weighed(gate=nn.Tanh()), Weighed(nn.Identity())),
    ],
    ids=["readers", "padding", "groups", "rows", "turned", "end", "activation", "gate", "no activation"],
)
def test_others_are_left_alone(module: nn.Module) -> None:
    assert squeeze_excites(traced(module)) is None


ROWS = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float16[2,8,3,3] x, float16[2,4] e) => (float16[2,8,1,1] y)
    <float16[8,4] w, float16[4] b, float16[4,8] v, int64[2] axes = {2, 3}, int64[4] sizes = {2, 8, 1, 1}> {
        m = ReduceMean <keepdims = 0> (x, axes)
        p = Gemm (m, w%s)
        q = Add (p, b)
        r = Relu (q)
        t = Gemm (r, v)
        g = Sigmoid (t)
        y = Reshape (g, sizes)
    }
"""
BRANCH = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float16[2,8,3,3] x, bool given) => (float16[2,8,1,1] y) <float16[4,8,1,1] w, float16[8,4,1,1] v> {
        m = GlobalAveragePool (x)
        y = If (given) <
            then_branch = t () => (float16[2,8,1,1] z) { p = Conv (m, w) r = Relu (p) q = Conv (r, v) z = Sigmoid (q) },
            else_branch = f () => (float16[2,8,1,1] z) { z = Sigmoid (x) }
        >
    }
"""
SCALAR = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float16[1,1,3,3] x) => (float16 y) { m = GlobalAveragePool (x) s = Squeeze (m) y = Sigmoid (s) }
"""


def written(text: str, **sizes: tuple[int, ...]) -> ir.Model:
    """A model of a text, its weights all ones."""
    weights = [ir.tensor(np.ones(of, np.float16), name=name) for name, of in sizes.items()]
    model = ir.from_onnx_text(text, initializers=weights)
    infer(model)
    return model


def test_a_product_s_own_sum_is_not_lost_where_another_follows() -> None:
    assert squeeze_excites(written(ROWS % "", w=(8, 4), b=(4,), v=(4, 8))) is not None
    assert squeeze_excites(written(ROWS % ", e", w=(8, 4), b=(4,), v=(4, 8))) is None


def test_what_is_computed_in_a_branch_is_left_alone() -> None:
    assert squeeze_excites(written(BRANCH, w=(4, 8, 1, 1), v=(8, 4, 1, 1))) is None


def test_a_mean_that_becomes_a_single_number_is_left_alone() -> None:
    assert squeeze_excites(written(SCALAR)) is None


def test_single_precision_is_left_alone() -> None:
    model = traced(Weighed(), half=False)

    assert squeeze_excites(model) is None
    assert not list(mean_calls(Program(model, device="cpu")))


def mean_calls(program: Program) -> list[torch.fx.Node]:
    return list(program.module.graph.find_nodes(op="call_function", target=MeanPixelsJob.target))


@pytest.mark.parametrize("module", [End(), Shown(), Pooled()], ids=["end", "mean", "pool"])
def test_a_mean_over_pixels_is_taken_over(module: nn.Module) -> None:
    model = traced(module)
    program = Program(model, device="cpu")
    (call,) = mean_calls(program)
    source = next(n for n in model.graph if n.op_type in ("ReduceMean", "GlobalAveragePool"))

    job = MeanPixelsJob.of_call(program.module, call, source)

    assert job is not None
    assert job == MeanPixelsJob((2, 16, 6, 5), "float16")
    assert job.candidates()[0][0] == LIBRARY
    assert job_of({**vars(job), "kernel": "mean_pixels"}) == job
    assert len(call.args) == MeanPixelsJob.settings + 1
    check_equal(model, model)


def test_other_means_stay_torch_s() -> None:
    assert not mean_calls(Program(traced(Rows()), device="cpu"))


def test_it_is_measured_as_it_is_called() -> None:
    found = squeeze_excites(traced(Weighed()))
    assert found is not None
    program = Program(found, device="cpu")
    (call,) = program.module.graph.find_nodes(op="call_function", target=SqueezeExciteJob.target)
    source = next(n for n in found.graph if n.domain == DOMAIN)

    job = SqueezeExciteJob.of_call(program.module, call, source)

    assert job is not None
    assert job == SqueezeExciteJob((2, 16, 6, 5), 4, "float16", "Silu", "Sigmoid")
    candidates = job.candidates()
    assert candidates[0][0] == LIBRARY
    assert {len(c) for c in candidates} == {len(candidates[0])}
    assert job_of({**vars(job), "kernel": "squeeze_excite"}) == job
    assert len(call.args) == SqueezeExciteJob.settings + 1


@pytest.mark.parametrize("mine", [True, False])
def test_its_second_layer_lies_as_it_is_read(mine: bool) -> None:
    found = squeeze_excites(traced(Weighed()))
    assert found is not None
    module = Program(found, device="cpu").module
    (call,) = module.graph.find_nodes(op="call_function", target=SqueezeExciteJob.target)
    call.update_arg(SqueezeExciteJob.settings, [8 if mine else LIBRARY, *[1] * 4])

    lay_out_weights(module)

    weight = module.get_buffer(str(call.args[3].target))
    assert weight.shape == (16, 4, 1, 1)
    assert weight.permute(1, 2, 3, 0).is_contiguous() is mine
