"""AFM: biased layers about the mean of their outputs, and embedding tables, down to clicks that stay as predictable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.method import Form, Inputs
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.rule import Skip
from tamago.compiler.store import Store
from tamago.rewrites import all_methods
from tamago.rewrites.low_rank.atomic_feature_mimicking import atomic_feature_mimicking, look_up_weights
from tamago.rewrites.low_rank.whitened_svd import whitened_svd
from tests.node_cases import floats

Floats = npt.NDArray[np.float32]

TARGET = OnnxRuntime(threads=1)


def run(form: Form, x: npt.NDArray[Any]) -> Floats:
    (found,) = TARGET.lower(alone(form.term, ir.DataType.from_numpy(x.dtype), x.ndim))({"x": x})
    return np.asarray(found, np.float32)


def place_of(weight: Floats, bias: Floats | None = None, *, op: str = "MatMul") -> Place:
    """The only place of a model of nothing else."""
    kind = ir.DataType.INT64 if op == "Gather" else ir.DataType.FLOAT
    x = ir.Value(name="x", shape=ir.Shape([None, len(weight)]), type=ir.TensorType(kind))
    constants = [ir.Value(name=n, const_value=ir.tensor(a)) for n, a in (("w", weight), ("b", bias)) if a is not None]
    for value, array in zip(constants, [weight, bias], strict=False):
        assert array is not None
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.FLOAT)
    nodes = [ir.node(op, [constants[0], x] if op == "Gather" else [x, constants[0]])]
    if bias is not None:
        nodes.append(ir.node("Add", [nodes[0].outputs[0], constants[1]]))
    graph = ir.Graph([x], nodes[-1].outputs, nodes=nodes, initializers=constants, opset_imports={"": 20})
    (place,) = find_places(graph)
    return place


def rank_of(form: Form) -> int:
    return int(form.setting.split()[1].rstrip(","))


def exact_ones(forms: Sequence[Form]) -> list[Form]:
    """Those that are not in 8 bit as well."""
    return [f for f in forms if "," not in f.setting]


def squares(error: npt.NDArray[Any]) -> float:
    return float(np.sum(np.square(error, dtype=np.float64)))


# --- linear ---------------------------------------------------------------------------------------------------------


def with_mean(rows: int, width: int, seed: int = 5) -> Floats:
    """Correlated inputs a long way from zero, as those after a ReLU or of a last layer are."""
    mixing = floats(width, width, seed=6) * np.arange(1, width + 1, dtype=np.float32) ** -1.0
    return (floats(rows, width, seed=seed) @ mixing.T + 4 * floats(width, seed=7)).astype(np.float32)


def test_it_is_the_papers_formula() -> None:
    weight, bias, x = floats(96, 64, seed=1), floats(64, seed=2), with_mean(4096, 96)
    y = x.astype(np.float64) @ weight + bias
    mean = y.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(y.T))

    for form in exact_ones(atomic_feature_mimicking.forms(place_of(weight, bias), Inputs((x,)))):
        kept = vectors[:, -rank_of(form) :]
        projection = kept @ kept.T
        wanted = (y - bias) @ projection + bias @ projection + mean @ (np.eye(64) - projection)
        assert squares(run(form, x) - wanted) < 0.02 * squares(y - wanted)
        np.testing.assert_allclose((run(form, x) - y).mean(axis=0), 0, atol=1e-3 * float(np.abs(y).max()))


def test_at_the_rank_of_the_outputs_it_is_exact() -> None:
    weight, bias, x = floats(128, 8, seed=1) @ floats(8, 96, seed=2), floats(96, seed=3), with_mean(512, 128)

    for form in exact_ones(atomic_feature_mimicking.forms(place_of(weight, bias), Inputs((x,)))):
        np.testing.assert_allclose(run(form, x), x @ weight + bias, atol=1e-4 * float(np.abs(x @ weight).max()))


def test_outputs_that_differ_by_their_mean_only_need_no_direction_for_it() -> None:
    """With the mean in the bias, rank 8 takes what an uncentred decomposition of rank 8 loses a direction for."""
    x = floats(512, 9, seed=4) @ floats(9, 64, seed=5) + 100 * floats(64, seed=6)
    weight, bias = floats(64, 64, seed=1), floats(64, seed=2)
    place, y = place_of(weight, bias), x @ weight + bias

    mine, other = (
        {rank_of(f): squares(run(f, x) - y) for f in exact_ones(m.forms(place, Inputs((x,))))}
        for m in (atomic_feature_mimicking, whitened_svd)
    )

    assert mine[8] < 0.75 * other[8]


@pytest.mark.parametrize("rows", [512, 4096])
def test_about_a_large_mean_it_loses_less_than_the_uncentred_svd(rows: int) -> None:
    weight, bias, x = floats(96, 64, seed=1), floats(64, seed=2), with_mean(rows, 96)
    unseen = with_mean(2048, 96, seed=8)
    y = unseen @ weight + bias
    place = place_of(weight, bias)

    pairs = zip(*(m.forms(place, Inputs((x,))) for m in (atomic_feature_mimicking, whitened_svd)), strict=True)

    for mine, other in pairs:
        assert mine.setting == other.setting
        # Rounding to codes, which is of both, may outweigh what they differ in.
        noise = 1.01 if "int8" in mine.setting else 1.0
        assert squares(run(mine, unseen) - y) < noise * squares(run(other, unseen) - y)


def test_without_a_bias_there_is_a_reason() -> None:
    with pytest.raises(Skip, match="no bias"):
        atomic_feature_mimicking.forms(place_of(floats(64, 64)), Inputs((floats(9, 64),)))
    with pytest.raises(Skip, match="too few"):
        atomic_feature_mimicking.forms(place_of(floats(64, 8), floats(8)), Inputs((floats(9, 64),)))
    with pytest.raises(Skip, match="not finite"):
        atomic_feature_mimicking.forms(place_of(floats(64, 64), floats(64)), Inputs((np.full((9, 64), np.inf),)))


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_of_that_rank_is_reproduced() -> None:
    table = floats(300, 16, seed=1) @ floats(16, 64, seed=2) + 5
    ids = np.random.default_rng(0).integers(-300, 300, (7, 5))
    forms = atomic_feature_mimicking.forms(place_of(table, op="Gather"), Inputs((ids,)))

    assert [rank_of(f) for f in exact_ones(forms)] == [48, 32, 16]
    for form in forms:
        tolerance = 0.03 if "8 bit" in form.setting else 1e-4
        assert run(form, ids).shape == (7, 5, 64)
        np.testing.assert_allclose(run(form, ids), table[ids], atol=tolerance * float(np.abs(table).max()))
        assert form.stored < 0.95 * table.nbytes


def test_what_is_looked_up_loses_less_and_the_rest_is_not_lost() -> None:
    used, rest = floats(40, 8, seed=1) @ floats(8, 32, seed=2), floats(400, 8, seed=3) @ floats(8, 32, seed=4)
    place = place_of(np.concatenate([used, rest]), op="Gather")
    often, everything = np.resize(np.arange(40), 4000), np.arange(440)

    def losses(ids: npt.NDArray[Any]) -> tuple[float, float]:
        form = exact_ones(atomic_feature_mimicking.forms(place, Inputs((ids,))))[-1]
        error = np.subtract(run(form, everything), place.weight)
        return squares(error[:40]) / squares(used), squares(error[40:]) / squares(rest)

    weighted, even = losses(often), losses(everything)

    assert weighted[0] < 0.2 * even[0]
    assert weighted[1] < 0.9


def test_rows_nobody_looks_up_count_too() -> None:
    weights = look_up_weights((np.asarray([[0, 0], [-1, 1]]),), 4)

    np.testing.assert_allclose(weights, [0.25 + 0.125, 0.125 + 0.125, 0.125, 0.125 + 0.125])
    np.testing.assert_allclose(look_up_weights((np.zeros(0, np.int64),), 4), 0.25)


@pytest.mark.parametrize("table", [floats(3, 100), floats(300, 1)], ids=["few rows", "one column"])
def test_a_table_that_is_short_already_is_refused(table: Floats) -> None:
    with pytest.raises(Skip, match="save nothing"):
        atomic_feature_mimicking.forms(place_of(table, op="Gather"), Inputs((np.zeros(1, np.int64),)))


# --- clicks ---------------------------------------------------------------------------------------------------------

USERS, ITEMS, TASTES, WIDTH = 600, 400, 4, 16
HELD, BATCH = 40_000, 500


class Clicks(nn.Module):
    """A factorisation machine and a perceptron on the same embeddings, wider than tastes are many: DeepFM's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, WIDTH), nn.Embedding(ITEMS, WIDTH)
        self.deep = nn.Sequential(nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, 1))
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        u, i = self.user(user), self.item(item)
        return (u * i).sum(-1) + self.deep(torch.cat([u, i], -1))[:, 0]


@dataclass(frozen=True)
class Trained:
    """The model, and users, items and clicks it has not seen."""

    model: Clicks
    users: Tensor
    items: Tensor
    clicks: Tensor
    exact: ir.Model

    def auc(self, program: ir.Model) -> float:
        names = [v.name or "" for v in program.graph.inputs]
        feeds = dict(zip(names, (self.users.numpy(), self.items.numpy()), strict=True))
        return float(roc_auc_score(self.clicks.numpy(), TARGET.lower(program)(feeds)[0]))


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """Clicks by agreement of tastes; popular items are shown more often."""
    generator = torch.Generator().manual_seed(0)
    tastes, kinds = torch.randn(USERS, TASTES, generator=generator), torch.randn(ITEMS, TASTES, generator=generator)
    popular = torch.arange(1, ITEMS + 1, dtype=torch.float32) ** -0.7
    count = 200_000 + HELD
    users = torch.randint(USERS, (count,), generator=generator)
    items = torch.multinomial(popular, count, replacement=True, generator=generator)
    chance = torch.sigmoid((tastes[users] * kinds[items]).sum(-1) - 1)
    clicks = torch.bernoulli(chance, generator=generator)
    torch.manual_seed(0)
    model = Clicks()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=400)
    for _ in range(4):
        for batch in torch.randperm(count - HELD).split(2000):
            loss = binary_cross_entropy_with_logits(model(users[batch], items[batch]), clicks[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    held = slice(count - HELD, count)
    with Store.open(":memory:") as store:
        exact = tamago.compile(model.eval(), (users[:9], items[:9]), dynamic_shapes=BATCHES, threads=1, store=store)
        yield Trained(model, users[held], items[held], clicks[held], exact.graph)


BATCHES = ({0: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})


def test_clicks_are_as_predictable_from_tables_a_third_of_the_size(trained: Trained) -> None:
    tables = [p for p in find_places(trained.exact.graph) if p.kind == "embedding"]
    before = trained.auc(trained.exact)
    shown = {"user": trained.users[:2000].numpy(), "item": trained.items[:2000].numpy()}
    choice: dict[str, Chosen] = {}
    for place in tables:
        ids = shown["user" if place.shape[0] == USERS else "item"]
        form = exact_ones(atomic_feature_mimicking.forms(place, Inputs((ids,))))[-1]
        choice[place.y.name or ""] = Chosen(atomic_feature_mimicking.name, form)
        assert form.stored < place.weight.nbytes / 3

    after = trained.auc(put(trained.exact, tables, choice))

    assert len(tables) == 2
    assert before > 0.8
    assert before - after <= 0.001


def auc(outputs: Sequence[Any], targets: Sequence[Any]) -> float:
    """Of all samples together."""
    scores, clicks = (torch.cat([torch.as_tensor(part) for part in parts]).numpy() for parts in (outputs, targets))
    return float(roc_auc_score(clicks, scores))


def test_the_whole_road_finds_small_tables_within_a_drop(trained: Trained) -> None:
    parts = zip(*(t[: HELD // 2].split(BATCH) for t in (trained.users, trained.items, trained.clicks)), strict=True)
    with Store.open(":memory:") as store:
        compiled = tamago.compile(
            trained.model,
            (trained.users[:BATCH], trained.items[:BATCH]),
            dynamic_shapes=BATCHES,
            threads=1,
            store=store,
            objective="size",
            budget=tamago.Budget(metric=auc, drop=0.005),
            calibration=[((users, items), clicks) for users, items, clicks in parts],
        )
    found = compiled.report.approximation
    rest = slice(HELD // 2, HELD)
    with torch.no_grad():
        before, after = (p(trained.users[rest], trained.items[rest]) for p in (trained.model, compiled))

    assert found is not None
    assert found.proof is not None
    assert atomic_feature_mimicking.name in compiled.explain()
    assert compiled.report.after.bytes < compiled.report.before.bytes / 3
    assert auc([before], [trained.clicks[rest]]) - auc([after], [trained.clicks[rest]]) <= 0.005


def test_it_is_registered() -> None:
    assert atomic_feature_mimicking in all_methods()
