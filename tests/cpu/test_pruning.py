"""Pruned programs: they run, they are smaller, what nothing needs costs nothing, and fitting again is worth it."""

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
from torch.nn.functional import cross_entropy, scaled_dot_product_attention, silu

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.losses import LossModel
from tamago.compiler.approximate.structure import Observed, Structure
from tamago.compiler.inference import infer
from tamago.compiler.report import Figures
from tamago.compiler.rule import Skip
from tamago.rewrites.pruning import STRUCTURES, prune
from tamago.rewrites.pruning.beta_rank import beta_rank, coefficients
from tamago.rewrites.pruning.compensation import compensated
from tamago.rewrites.pruning.costs import unit_costs
from tamago.rewrites.pruning.dead_channels import dead_channels
from tamago.rewrites.pruning.groups import Group
from tamago.rewrites.pruning.heads import head_groups
from tamago.rewrites.pruning.l1 import l1, norms
from tamago.rewrites.pruning.moments import AT_ONCE, Gathered, Moments, Reading, readings
from tamago.rewrites.pruning.prune import Score, prunable, pruned
from tamago.rewrites.pruning.refit import refitted
from tamago.rewrites.pruning.removal import Kept, without
from tamago.rewrites.pruning.selection import select
from tamago.rewrites.pruning.taylor import rises, taylor

Array = np.ndarray[Any, Any]
LOSS = LossModel("cross-entropy", None, lambda outputs: outputs)
SCORED = {"l1": (l1, norms), "beta_rank": (beta_rank, coefficients), "taylor": (taylor, rises)}


class Pictures(nn.Module):
    """A small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.third, self.last = nn.Linear(512, 48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pictures [N, 64]."""
        h = torch.relu(self.second(torch.relu(self.first(x.reshape(-1, 1, 8, 8)))))
        return self.last(torch.relu(self.third(torch.max_pool2d(h, 2).flatten(1))))


class Rows(nn.Module):
    """A transformer's layer over the rows of a picture: four heads, a gated feed-forward layer."""

    def __init__(self, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, width), nn.Parameter(0.1 * torch.randn(8, width))
        self.projections = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.last = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pictures [N, 64]."""
        h = self.embed(x.reshape(-1, 8, 8)) + self.position
        normal = self.norms[0](h)
        q, k, v = (p(normal).unflatten(-1, (4, -1)).transpose(1, 2) for p in self.projections[:3])
        h = h + self.projections[3](scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        normal = self.norms[1](h)
        h = h + self.down(silu(self.gate(normal)) * self.up(normal))
        return self.last(self.norms[2](h).mean(1))


@dataclass(frozen=True)
class Trained:
    """A classifier of digits as exact rewriting leaves it, and digits it has not seen."""

    model: ir.Model
    pictures: Array
    labels: Array

    @property
    def observed(self) -> Observed:
        """The program on 200 of them, five a sample."""
        return self.on(200)

    def on(self, count: int) -> Observed:
        """The program on some of them."""
        parts = [slice(i, i + 5) for i in range(0, count, 5)]
        samples = [Sample({self.input: self.pictures[p]}, torch.as_tensor(self.labels[p])) for p in parts]
        return Observed(self.model, samples, LOSS)

    @property
    def input(self) -> str:
        """The name of the program's only one."""
        return self.model.graph.inputs[0].name or ""

    def outputs(self, model: ir.Model) -> Array:
        """What ONNX Runtime makes of the others."""
        program = OnnxRuntime(threads=1).lower(model)
        return np.asarray(program({self.input: self.pictures[200:]})[0])

    def loss(self, model: ir.Model) -> float:
        """The mean over the others."""
        return float(cross_entropy(torch.as_tensor(self.outputs(model)), torch.as_tensor(self.labels[200:])))


def trained(make: Callable[[], nn.Module], epochs: int) -> Trained:
    """A model trained on half of the digits, in seconds."""
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(target)
    order = torch.randperm(len(labels))
    seen, held = order[:897], order[897:]
    model = make()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in seen[torch.randperm(len(seen))].split(64):
            optimiser.zero_grad()
            cross_entropy(model(pictures[batch]), labels[batch]).backward()
            optimiser.step()
    compiled = tamago.compile(
        model.eval(), (pictures[:8],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), threads=1, measure=False
    )
    return Trained(compiled.graph, pictures[held].numpy(), labels[held].numpy())


@pytest.fixture(scope="module")
def pictures() -> Trained:
    return trained(Pictures, 8)


@pytest.fixture(scope="module")
def rows() -> Trained:
    return trained(Rows, 12)


def selected(observed: Observed, score: Score, fraction: float) -> tuple[list[Group], Kept]:
    """All groups, and what stays of those that lose units, when this share of all units' cost goes."""
    groups = prunable(observed.model)
    stay = select(groups, score(observed, groups), unit_costs(observed.model, groups), fraction)
    return groups, [(g, s) for g, s in zip(groups, stay, strict=True) if len(s) < g.units]


def fitted(observed: Observed, score: Score, fraction: float) -> ir.Model:
    """The program without these units."""
    groups, kept = selected(observed, score, fraction)
    return pruned(observed, readings(observed, groups), kept)[1]()


def cut(observed: Observed, score: Score, fraction: float) -> ir.Model:
    """The same, nothing fitted again."""
    return without(observed.model, selected(observed, score, fraction)[1])


@pytest.fixture
def models(pictures: Trained, rows: Trained) -> dict[str, Trained]:
    return {"pictures": pictures, "rows": rows}


def size(model: ir.Model) -> int:
    return Figures.of(model).bytes


# --- exact ----------------------------------------------------------------------------------------------------------


def with_dead_channels(found: Trained) -> ir.Model:
    """A third of the first filters that Relu makes zero, and as many of the second that nothing reads."""
    model = found.model.clone()
    for group, sign in zip(prunable(model)[:2], (True, False), strict=True):
        for part in group.of("source" if sign else "sink"):
            change(part.constant, part.layout.axis, part.layout.indices(np.arange(0, group.units, 3)), 0.0)
        for part in group.of("each") if sign else ():
            change(part.constant, 0, np.arange(0, group.units, 3), -1.0)
    return model


def change(value: ir.Value, axis: int, indices: Array, number: float | Array) -> None:
    assert value.const_value is not None
    array = np.moveaxis(value.const_value.numpy().copy(), axis, 0)
    array[indices] = number
    value.const_value = ir.tensor(np.ascontiguousarray(np.moveaxis(array, 0, axis)))


def test_dead_channels_go_without_a_trace(pictures: Trained) -> None:
    model = with_dead_channels(pictures)
    (variant,) = dead_channels.function(Observed(model, (), LOSS))
    np.testing.assert_allclose(pictures.outputs(variant.model), pictures.outputs(model), rtol=1e-5, atol=1e-5)
    assert variant.setting.startswith("17 units")
    assert size(variant.model) < 0.7 * size(model)


def test_a_program_without_dead_channels_has_no_such_variant(pictures: Trained) -> None:
    assert list(dead_channels.function(Observed(pictures.model, (), LOSS))) == []


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", STRUCTURES[1:], ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["pictures", "rows"])
def test_variants_are_smaller_and_smaller_programs_of_the_same_outputs(
    models: dict[str, Trained], name: str, method: Structure
) -> None:
    found = models[name]
    variants = list(method.function(found.on(60)))
    sizes = [size(found.model), *(size(v.model) for v in variants)]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] < 0.75 * sizes[0]
    for variant in variants:
        assert [v.name for v in variant.model.graph.inputs] == [v.name for v in found.model.graph.inputs]
        outputs = found.outputs(variant.model)
        assert outputs.shape == (len(found.pictures) - 200, 10)
        assert np.all(np.isfinite(outputs))


@pytest.mark.parametrize("name", ["pictures", "rows"])
def test_declared_shapes_are_those_that_inference_finds(models: dict[str, Trained], name: str) -> None:
    (*_, variant) = l1.function(models[name].on(10))
    declared = ir.to_proto(variant.model)
    infer(variant.model)
    assert ir.to_proto(variant.model) == declared


@pytest.mark.parametrize("score", SCORED)
@pytest.mark.parametrize("name", ["pictures", "rows"])
def test_fitting_what_reads_them_again_lowers_the_loss(models: dict[str, Trained], name: str, score: str) -> None:
    found = models[name]
    with_fit, without_fit = (found.loss(make(found.observed, SCORED[score][1], 0.5)) for make in (fitted, cut))
    assert with_fit < without_fit
    assert with_fit - found.loss(found.model) < 0.8 * (without_fit - found.loss(found.model))


def test_a_fifth_of_the_units_costs_little(models: dict[str, Trained]) -> None:
    for found in models.values():
        for score in (rises, coefficients):
            assert found.loss(fitted(found.observed, score, 0.2)) < found.loss(found.model) + 0.02


def test_gradients_choose_better_than_norms_in_a_transformer(rows: Trained) -> None:
    """Without repair, where the choice is all that there is."""
    losses = [rows.loss(cut(rows.observed, score, 0.5)) for score in (rises, norms)]
    assert losses[0] < losses[1]


def test_errors_of_layers_before_are_taken_back(pictures: Trained) -> None:
    """What reads units comes nearer to what it made before, once it has seen what it is given now."""
    groups, kept = selected(pictures.observed, norms, 0.5)
    known = readings(pictures.observed, groups)
    contents = refitted(known, kept)
    once = without(pictures.model, kept, contents)
    twice = without(pictures.model, kept, compensated(pictures.observed, once, known, kept, contents))
    wanted = pictures.outputs(pictures.model)
    assert distance(pictures.outputs(twice), wanted) < distance(pictures.outputs(once), wanted)


def test_rows_that_come_one_at_a_time_all_count() -> None:
    x = np.random.default_rng(0).standard_normal((AT_ONCE + 3, 5))
    found = Moments(0, np.zeros(5), np.zeros((5, 5)))
    gathered = Gathered(found.add)
    for row in x:
        gathered.take(row[None])
    assert found.count == AT_ONCE  # the last wait for others, or for the end

    gathered.flush()
    gathered.flush()

    assert found.count == len(x)
    np.testing.assert_allclose(found.first, x.sum(axis=0))
    np.testing.assert_allclose(found.second, x.T @ x)


def test_structures_share_what_they_read_of_a_program(rows: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def counted(observed: Observed, groups: Sequence[Group]) -> list[Reading]:
        seen.append(observed)
        return readings(observed, groups)

    monkeypatch.setattr(prune, "readings", counted)
    observed, other = rows.on(20), rows.on(20)
    for score in (l1, taylor):
        assert next(score.function(observed)).setting
    assert next(l1.function(other)).setting

    assert seen == [observed, other]


def distance(a: Array, b: Array) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_heads_are_units_of_their_own(rows: Trained) -> None:
    (heads,), _ = head_groups(rows.model)
    assert heads.units == 4
    result = without(rows.model, [(heads, np.array([0, 2]))])
    assert rows.outputs(result).shape == (len(rows.pictures) - 200, 10)
    assert head_groups(result)[0][0].units == 2


@pytest.mark.parametrize("method", STRUCTURES, ids=lambda s: s.name)
def test_a_program_without_units_is_refused_with_a_reason(method: Structure) -> None:
    value = ir.Value(name="x", shape=ir.Shape(["n", 4]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((4, 4), np.float32)), shape=ir.Shape([4, 4]))
    product = ir.node("MatMul", [value, weight])
    graph = ir.Graph([value], product.outputs, nodes=[product], initializers=[weight], opset_imports={"": 23})
    model = ir.Model(graph, ir_version=10)
    infer(model)
    with pytest.raises(Skip, match="output of the model"):
        list(method.function(Observed(model, (), LOSS)))
