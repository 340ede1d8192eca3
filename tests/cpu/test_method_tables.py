"""The papers' tables in small: which method loses less at one size, on models trained here in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.method import Form, Inputs, X
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.taps import taps
from tamago.compiler.approximate.write import Chosen, put
from tamago.compiler.rule import Skip, op
from tamago.compiler.store import Store
from tamago.compiler.torch_program import torch_program
from tamago.rewrites.low_rank.atomic_feature_mimicking import atomic_feature_mimicking
from tamago.rewrites.low_rank.channel_factorisation import channel_factorisation
from tamago.rewrites.low_rank.directions import output_directions
from tamago.rewrites.low_rank.factors import break_even
from tamago.rewrites.low_rank.moments import moments_of
from tamago.rewrites.low_rank.spatial_factorisation import spatial_factorisation
from tamago.rewrites.low_rank.welore import heavy_rank
from tamago.rewrites.low_rank.whitened_svd import whitened_svd
from tests.node_cases import floats

Array = np.ndarray[Any, Any]

TARGET = OnnxRuntime(threads=1)
SEEN = 1200  # digits that train; the others judge


@dataclass(frozen=True)
class Judged:
    """A trained model as a program, the inputs of its places on training digits, and its loss on others."""

    exact: ir.Model
    places: list[Place]
    seen: dict[str, Inputs]
    pictures: Tensor
    labels: Tensor

    def logits(self, program: ir.Model) -> Tensor:
        (name,) = [v.name or "" for v in program.graph.inputs]
        return torch.from_numpy(np.asarray(TARGET.lower(program)({name: self.pictures.numpy()})[0]))

    def loss(self, program: ir.Model) -> float:
        return float(cross_entropy(self.logits(program), self.labels))

    def accuracy(self, program: ir.Model) -> float:
        return float((self.logits(program).argmax(1) == self.labels).float().mean())

    def rise(self, forms: dict[str, Form]) -> float:
        return self.loss(self.with_forms(forms)) - self.loss(self.exact)

    def with_forms(self, forms: dict[str, Form]) -> ir.Model:
        return put(self.exact, self.places, {name: Chosen("table", form) for name, form in forms.items()})

    def at(self, found: Any, fraction: int) -> dict[str, Form]:
        """A method's forms at three quarters (0), a half (1), a quarter (2) of the break-even rank."""
        result: dict[str, Form] = {}
        for place in self.places:
            try:
                offered = found.forms(place, self.seen[place.y.name or ""])
            except Skip:
                continue
            ranks = [f for f in offered if "int8" not in f.setting]
            if len(ranks) == 3:
                result[place.y.name or ""] = ranks[fraction]
        return result


def judged(model: nn.Module, pictures: Tensor, labels: Tensor) -> Judged:
    with Store.open(":memory:") as store:
        sizes = ({0: torch.export.Dim.DYNAMIC},)
        exact = tamago.compile(model.eval(), (pictures[:9],), dynamic_shapes=sizes, threads=1, store=store).graph
    places = [p for p in find_places(exact.graph) if len(p.shape) > 1]
    tapped: Any = taps(torch_program(exact), {p.x.name or "" for p in places}, set())
    batch = pictures[:256]
    with torch.no_grad():
        tapped.run(batch)
    (name,) = [v.name for v in exact.graph.inputs]
    arrays = {n: v.numpy() for n, v in tapped.seen.items()} | {name: batch.numpy()}
    seen = {p.y.name or "": Inputs((arrays[p.x.name][:128], arrays[p.x.name][128:])) for p in places}
    return Judged(exact, places, seen, pictures[SEEN:], labels[SEEN:])


def digits() -> tuple[Tensor, Tensor]:
    data, target = load_digits(return_X_y=True)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(data, dtype=torch.float32)[order] / 16, torch.tensor(target)[order]


def train(model: nn.Module, pictures: Tensor, labels: Tensor, epochs: int, after: Callable[[int], None] | None) -> None:
    """With as much weight decay as rank needs to fall: without, spectra stay those of the random start.

    In double precision: the order in which a processor adds would otherwise make another model of it after some steps.
    """
    model, pictures = model.double(), pictures.double()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    step = 0
    for _ in range(epochs):
        for batch in torch.randperm(SEEN).split(64):
            optimiser.zero_grad()
            cross_entropy(model(pictures[batch]), labels[batch]).backward()
            optimiser.step()
            step += 1
            if after is not None:
                after(step)
    model.float()


# --- linear layers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def perceptron() -> Judged:
    torch.manual_seed(0)
    pictures, labels = digits()
    hidden = [layer for _ in range(4) for layer in (nn.Linear(256, 256), nn.ReLU())]
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), *hidden, nn.Linear(256, 10))
    train(model, pictures, labels, 40, None)
    return judged(model, pictures, labels)


def truncated(place: Place, rank: int) -> Form:
    """The plain SVD."""
    u, s, v = np.linalg.svd(place.weight.astype(np.float64), full_matrices=False)
    left, right = ((a[:rank] if a is v else a[:, :rank]).astype(np.float32) for a in (u * s, v))
    product = op.MatMul(op.MatMul(X, np.ascontiguousarray(left)), np.ascontiguousarray(right))
    return Form(f"rank {rank}", product if place.bias is None else op.Add(product, place.bias))


def wide(found: Judged) -> list[Place]:
    return [p for p in found.places if min(p.shape) >= 32]


def size(found: Judged, ranks: Sequence[int | None]) -> float:
    """Of weights with these ranks, None for whole ones, as a part of what they were."""
    shapes = [p.shape for p in wide(found)]
    kept = [s[0] * s[1] if r is None else r * sum(s) for s, r in zip(shapes, ranks, strict=True)]
    return sum(kept) / sum(s[0] * s[1] for s in shapes)


def ranks_by_welore(found: Judged, target: float) -> list[int | None]:
    """The smallest threshold, one for all weights, that meets a size."""
    spectra = [np.linalg.svd(p.weight.astype(np.float64), compute_uv=False) for p in wide(found)]
    for threshold in np.linspace(0.005, 0.9, 300):
        heavy = [heavy_rank(values, float(threshold)) for values in spectra]
        ranks = [r if r < break_even(p.shape) else None for p, r in zip(wide(found), heavy, strict=True)]
        if size(found, ranks) <= target:
            return ranks
    raise AssertionError("no threshold meets the size")


def rise_of(found: Judged, ranks: Sequence[int | None]) -> float:
    pairs = zip(wide(found), ranks, strict=True)
    return found.rise({p.y.name or "": truncated(p, r) for p, r in pairs if r is not None})


@pytest.mark.parametrize("target", [0.8, 0.6, 0.4])
def test_welore_loses_a_third_less_than_uniform_ranks(target: float, perceptron: Judged) -> None:
    ranks = ranks_by_welore(perceptron, target)
    part = size(perceptron, ranks)
    uniform = [int(part * break_even(p.shape)) + 1 for p in wide(perceptron)]

    assert size(perceptron, uniform) >= part
    assert 1.5 * rise_of(perceptron, ranks) <= rise_of(perceptron, uniform)


def lord(place: Place, inputs: Inputs, rank: int) -> Form:
    """x·W·UUᵀ with the eigenvectors U of the outputs' second moment."""
    weight = place.weight.astype(np.float64)
    y = np.concatenate([a.reshape(-1, place.shape[0]) for a in inputs.arrays]).astype(np.float64) @ weight
    _, vectors = np.linalg.eigh(y.T @ y)
    kept = vectors[:, -rank:]
    left, right = (np.ascontiguousarray(a, np.float32) for a in (weight @ kept, kept.T))
    product = op.MatMul(op.MatMul(X, left), right)
    return Form("", product if place.bias is None else op.Add(product, place.bias))


def test_lord_is_the_whitened_svd(perceptron: Judged) -> None:
    """By Eckart and Young, where the second moment is trusted as it is."""
    forms = perceptron.at(whitened_svd, 0)
    others = {
        p.y.name or "": lord(p, perceptron.seen[p.y.name or ""], int(forms[p.y.name or ""].setting.split()[1]))
        for p in perceptron.places
        if p.y.name in forms
    }

    assert len(forms) == 5
    assert perceptron.rise(forms) == pytest.approx(perceptron.rise(others), abs=1e-3)


@pytest.mark.parametrize("fraction", [0, 1, 2])
@pytest.mark.parametrize("found", [whitened_svd, atomic_feature_mimicking], ids=lambda m: m.name)
def test_what_data_weighs_loses_less_than_the_plain_svd(found: Any, fraction: int, perceptron: Judged) -> None:
    forms = perceptron.at(found, fraction)
    ranks = {name: int(form.setting.split()[1]) for name, form in forms.items()}
    plain = {p.y.name or "": truncated(p, ranks[p.y.name or ""]) for p in wide(perceptron)}

    assert 1.5 * abs(perceptron.rise(forms)) < perceptron.rise(plain)


def windows(count: int, seed: int) -> list[Array]:
    """Samples of 64 rows, each sample with directions of its own besides those that all share."""
    shared = floats(8, 128, seed=1)
    own = [floats(64, 3, seed=seed + i) @ floats(3, 128, seed=seed + 1000 + i) for i in range(count)]
    noise = [floats(64, 8, seed=seed + 2000 + i) @ shared + floats(64, 128, seed=seed + 3000 + i) for i in range(count)]
    return [a + b for a, b in zip(own, noise, strict=True)]


@pytest.mark.parametrize("count", [4, 8])
def test_few_samples_are_not_believed_and_unseen_ones_lose_less(count: int) -> None:
    weight, unseen = floats(128, 96, seed=2), np.concatenate(windows(32, 50)).astype(np.float64)
    y = unseen @ weight
    seen = moments_of(windows(count, 5000))

    def lost(ridge: float) -> float:
        kept = output_directions(weight, seen.second, ridge)[1][:24]
        return float(np.sum((y - y @ kept.T @ kept) ** 2))

    ridge = seen.ridge(weight, 24)

    assert ridge > 0
    assert lost(ridge) < 0.97 * lost(0.0)


def test_many_independent_rows_are_believed() -> None:
    decaying = np.arange(1, 129, dtype=np.float32) ** -1.0
    seen = moments_of([floats(4096, 128, seed=3) * decaying])

    assert seen.ridge(floats(128, 96, seed=2), 24) == 0


# --- convolutions ---------------------------------------------------------------------------------------------------


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))


def trained_rank_pruning(model: nn.Sequential, energy: float = 0.9, every: int = 20) -> Callable[[int], None]:
    """Each so many steps the weight's smallest singular values, by channels, that hold a tenth of its energy go."""

    def truncate(step: int) -> None:
        if step % every:
            return
        for layer in model:
            if isinstance(layer, nn.Conv2d) and layer.in_channels > 1:
                matrix = layer.weight.data.reshape(layer.out_channels, -1)
                u, s, v = torch.linalg.svd(matrix, full_matrices=False)
                kept = int((torch.cumsum(s**2, 0) < energy * (s**2).sum()).sum()) + 1
                layer.weight.data = ((u[:, :kept] * s[:kept]) @ v[:kept]).reshape(layer.weight.shape)

    return truncate


@pytest.fixture(scope="module")
def networks() -> dict[str, Judged]:
    pictures, labels = digits()
    found: dict[str, Judged] = {}
    for name in ("plain", "pruned"):
        model = small_network()
        train(model, pictures, labels, 8, trained_rank_pruning(model) if name == "pruned" else None)
        found[name] = judged(model, pictures, labels)
    return found


@pytest.mark.parametrize("found", [channel_factorisation, spatial_factorisation], ids=lambda m: m.name)
def test_half_the_multiply_adds_cost_little_accuracy(found: Any, networks: dict[str, Judged]) -> None:
    network = networks["pruned"]
    forms = network.at(found, 1)

    assert len(forms) == 2
    assert network.accuracy(network.exact) - network.accuracy(network.with_forms(forms)) <= 0.013


def test_rank_pruned_in_training_loses_less_than_rank_pruned_after(networks: dict[str, Judged]) -> None:
    rises = {name: network.rise(network.at(channel_factorisation, 2)) for name, network in networks.items()}

    assert abs(rises["pruned"]) < 0.5 * rises["plain"]
