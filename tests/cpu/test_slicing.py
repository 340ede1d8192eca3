"""Rotations of the residual stream are exact, and its first principal directions are the ones to keep."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.losses import LossModel
from tamago.compiler.approximate.structure import Observed, Variant
from tamago.compiler.facts import Array, Floats
from tamago.compiler.inference import infer
from tamago.compiler.ir import dims, op_name
from tamago.compiler.report import Figures
from tamago.compiler.rule import Skip
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tamago.rewrites import all_structures
from tamago.rewrites.slicing import STRUCTURES, shared_rotation, slicegpt
from tamago.rewrites.slicing.canonical import canonical
from tamago.rewrites.slicing.directions import kept, moments_at_points, principal
from tamago.rewrites.slicing.residual_stream import find_streams
from tamago.rewrites.slicing.rotation import rotated
from tamago.rewrites.slicing.shared_rotation import one_basis

WIDTH, TOKENS, SYMBOLS = 64, 64, 128


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, norm: Callable[[int], nn.Module], bias: bool, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias), nn.Linear(WIDTH, WIDTH, bias)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH, bias), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH, bias))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (t.view(batch, tokens, 4, -1).transpose(1, 2) for t in self.qkv(self.norms[0](x)).chunk(3, dim=-1))
        heads = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(heads.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.mlp(self.norms[1](x))


class Language(nn.Module):
    """Bytes of Python source → logits of the next one."""

    def __init__(self, norm: Callable[[int], nn.Module], *, bias: bool, tied: bool, layers: int = 2) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(SYMBOLS, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.ModuleList(Block(norm, bias, causal=True) for _ in range(layers))
        self.norm, self.head = norm(WIDTH), nn.Linear(WIDTH, SYMBOLS, bias=False)
        nn.init.normal_(self.words.weight, std=0.05)
        nn.init.normal_(self.positions.weight, std=0.05)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions(torch.arange(TOKENS))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Pictures(nn.Module):
    """Patches by a convolution, a class token in front, and what becomes of it classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.ModuleList(Block(nn.LayerNorm, bias=True, causal=False) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.embed(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def text_windows(count: int, seed: int) -> Tensor:
    source = torch.tensor([min(b, SYMBOLS - 1) for b in inspect.getsource(argparse).encode()])
    starts = torch.randint(len(source) - TOKENS - 1, (count,), generator=torch.Generator().manual_seed(seed))
    return torch.stack([source[s : s + TOKENS + 1] for s in starts.tolist()])


def unlike_new(model: nn.Module) -> nn.Module:
    """Norms and biases as after training: not ones and zeros."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def rms_norm(width: int) -> nn.Module:
    return nn.RMSNorm(width, eps=1e-3)


def run(model: ir.Model, x: Array) -> Floats:
    return np.asarray(OnnxRuntime(threads=1).lower(model)({str(model.graph.inputs[0].name): x})[0], np.float64)


def observe(model: ir.Model, inputs: Tensor) -> Observed:
    name = str(model.graph.inputs[0].name)
    samples = [Sample({name: x[None].numpy()}, None) for x in inputs]
    return Observed(model, samples, LossModel("kl", None, lambda outputs: outputs[0]))


def orthogonal(width: int, seed: int = 0) -> Floats:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def in_one_basis(model: ir.Model, basis: Floats, **words: Any) -> ir.Model:
    """Every stream of a canonical model in this basis."""
    bases: dict[str, Floats] = {}
    for stream in find_streams(model.graph):
        bases |= one_basis(stream, basis)
    return rotated(model, bases, "test", **words)


@dataclass
class Trained:
    """A language model of bytes, traced; the samples that choose and those that judge."""

    model: ir.Model
    observed: Observed
    held: Tensor
    loss: float = 0.0

    def __post_init__(self) -> None:
        self.loss = self.nats(self.model)

    def nats(self, model: ir.Model) -> float:
        program, name = OnnxRuntime(threads=1).lower(model), str(model.graph.inputs[0].name)
        logits = [torch.from_numpy(np.asarray(program({name: w[None, :-1].numpy()})[0])) for w in self.held]
        return float(cross_entropy(torch.cat(logits).flatten(0, 1), self.held[:, 1:].flatten()))

    def rise(self, model: ir.Model) -> float:
        return self.nats(model) - self.loss


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Trained for some seconds, until slicing can hurt."""
    torch.manual_seed(0)
    model = Language(rms_norm, bias=False, tied=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(120):
        windows = text_windows(16, 1000 + step)
        loss = cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    program = trace(model.eval(), (text_windows(1, 0)[:, :-1],), opset=23).model
    return Trained(program, observe(program, text_windows(48, 1)[:, :-1]), text_windows(48, 2))


@pytest.fixture(scope="module")
def shared(trained: Trained) -> list[Variant]:
    return list(shared_rotation.function(trained.observed))


@pytest.fixture(scope="module")
def sliced(trained: Trained) -> list[Variant]:
    return list(slicegpt.function(trained.observed))


def random_rise(trained: Trained, width: int) -> float:
    """The mean over some random bases, cut."""
    model = canonical(trained.model)
    return float(np.mean([trained.rise(in_one_basis(model, orthogonal(WIDTH, s)[:, :width])) for s in range(3)]))


def test_both_are_among_all_structures() -> None:
    assert {shared_rotation, slicegpt} == set(STRUCTURES) <= set(all_structures())
    assert all(s.family == "slicing" and "2401.15024" in s.paper and "Q" in s.statement for s in STRUCTURES)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("norm", [rms_norm, nn.LayerNorm])
def test_a_rotation_is_exact(norm: Callable[[int], nn.Module], tied: bool) -> None:
    model = unlike_new(Language(norm, bias=norm is nn.LayerNorm, tied=tied))
    ids = text_windows(1, 0)[:, :-1]
    program = trace(model, (ids,), opset=23).model
    exact = run(program, ids.numpy())

    plain = canonical(program)
    (stream,) = find_streams(plain.graph)
    points = dict.fromkeys(stream.bases().values())
    different = {p.name or "": orthogonal(WIDTH, seed) for seed, p in enumerate(points)}

    assert len(stream.points) == len(stream.norms) == 5
    for found in (plain, in_one_basis(plain, orthogonal(WIDTH)), rotated(plain, different, "test")):
        assert np.abs(run(found, ids.numpy()) - exact).max() <= 1e-4
    assert np.abs(exact).max() > 1


def test_a_rotation_of_the_trained_model_is_exact(trained: Trained) -> None:
    ids = trained.held[:1, :-1].numpy()

    found = in_one_basis(canonical(trained.model), orthogonal(WIDTH))

    assert np.abs(run(found, ids) - run(trained.model, ids)).max() <= 1e-4


def test_a_class_token_and_patches_by_a_convolution() -> None:
    model, pictures = unlike_new(Pictures()), torch.randn(3, 1, 8, 8)
    program = trace(model, (pictures[:1],), opset=23).model
    exact = run(program, pictures[:1].numpy())
    plain = canonical(program)

    assert np.abs(run(in_one_basis(plain, orthogonal(WIDTH)), pictures[:1].numpy()) - exact).max() <= 1e-4
    for method in STRUCTURES:
        for variant in method.function(observe(program, pictures)):
            assert run(variant.model, pictures[:1].numpy()).shape == (1, 10)


def test_what_exact_rewriting_leaves_is_sliced() -> None:
    model, pictures = unlike_new(Pictures()), torch.randn(3, 1, 8, 8)
    with Store.open(":memory:") as store:
        program = tamago.compile(model, (pictures,), threads=1, store=store, measure=False).graph
    exact = run(program, pictures.numpy())

    found = in_one_basis(canonical(program), orthogonal(WIDTH))

    assert "com.microsoft::BiasGelu" in {op_name(n) for n in found.graph}
    assert [op_name(n) for n in found.graph].count("Add") <= [op_name(n) for n in program.graph].count("Add") + 1
    assert np.abs(run(found, pictures.numpy()) - exact).max() <= 1e-4


def test_variants_get_narrower_and_are_smaller(trained: Trained, shared: list[Variant], sliced: list[Variant]) -> None:
    before = Figures.of(trained.model).bytes
    for variants in (shared, sliced):
        sizes = [Figures.of(v.model).bytes for v in variants]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == len(sizes) >= 2
        assert sizes[0] < before
    assert [v.setting for v in shared] == ["12 %: 56 of 64 directions", "25 %: 48 of 64 directions"]
    assert Figures.of(shared[-1].model).bytes < 0.76 * before
    assert Figures.of(shared[-1].model).nodes == Figures.of(trained.model).nodes


def test_the_interface_stays(trained: Trained, shared: list[Variant], sliced: list[Variant]) -> None:
    for variant in (*shared, *sliced):
        for before, after in (
            (trained.model.graph.inputs, variant.model.graph.inputs),
            (trained.model.graph.outputs, variant.model.graph.outputs),
        ):
            assert [(v.name, v.dtype, v.shape) for v in after] == [(v.name, v.dtype, v.shape) for v in before]
        inferred = variant.model.clone()
        for node in inferred.graph:
            for value in node.outputs:
                value.shape = value.shape if value.is_graph_output() else None
        infer(inferred)
        for node, same in zip(variant.model.graph, inferred.graph, strict=True):
            assert [dims(v) for v in node.outputs] == [dims(v) for v in same.outputs]


def test_a_rise_is_small_and_random_directions_are_ten_times_worse(
    trained: Trained, shared: list[Variant], sliced: list[Variant]
) -> None:
    rises = [trained.rise(v[-1].model) for v in (shared, sliced)]
    control = random_rise(trained, kept(WIDTH, 0.25))

    assert rises[1] <= 0.03
    assert rises[1] < rises[0]
    assert control >= 10 * rises[0]


def test_the_divisor_is_the_old_width(trained: Trained, shared: list[Variant]) -> None:
    moments = moments_at_points(
        trained.observed, canonical(trained.model), find_streams(canonical(trained.model).graph)
    )
    basis = principal(np.sum([m / np.trace(m) for m in moments.values()], axis=0))[:, : kept(WIDTH, 0.25)]

    found = in_one_basis(canonical(trained.model), basis, divisor=False)

    assert trained.rise(found) > 1.3 * trained.rise(shared[-1].model)


def test_bases_are_those_of_the_sliced_network(trained: Trained, sliced: list[Variant]) -> None:
    """What a point sees in the sliced network has no correlations left: it is in its principal directions."""
    model = sliced[-1].model
    streams = find_streams(model.graph)  # shortcuts part them

    moments = moments_at_points(trained.observed, model, streams)

    assert len(moments) == len(streams) == 5
    for moment in moments.values():
        spread = np.sqrt(np.outer(np.diag(moment), np.diag(moment)))
        assert np.abs(moment / spread - np.eye(len(moment))).max() < 0.02
        assert np.all(np.diff(np.diag(moment)) <= 1e-3 * moment[0, 0])


def test_a_model_without_a_stream_is_skipped_with_the_reason() -> None:
    program = trace(nn.Sequential(nn.Linear(64, 64), nn.ReLU()).eval(), (torch.ones(1, 64),), opset=23).model
    for method in STRUCTURES:
        with pytest.raises(Skip, match="nothing in the model is normalised"):
            next(method.function(observe(program, torch.ones(1, 64))))
