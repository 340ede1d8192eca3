"""Under a budget: smaller and within it on samples nobody chose on, or the exact program and a word why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

import tamago
from tamago.compiler import main_line, within_budget
from tamago.compiler.approximate.acceptance import paired_rise
from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.calibration import Sample, split
from tamago.compiler.approximate.gain import Sides
from tamago.compiler.approximate.proof import Proof
from tamago.compiler.approximate.search import Search
from tamago.compiler.approximate.stack import stacked, together
from tamago.compiler.approximate.tables import STORING
from tamago.compiler.approximate.task import Found, Outcome
from tamago.compiler.store import Store
from tamago.compiler.within_budget import Result

HELD = 700  # for calibration; what is left of the held-out digits judges
BATCH = 128
WIDTH = 384


@dataclass(frozen=True)
class Trained:
    """A classifier of digits, and those it has not seen."""

    model: nn.Module
    pictures: Tensor
    labels: Tensor
    store: Store

    @property
    def calibration(self) -> list[tuple[tuple[Tensor], Tensor]]:
        """One picture a sample."""
        return [((self.pictures[i : i + 1],), self.labels[i : i + 1]) for i in range(HELD)]

    def compile(self, budget: tamago.Budget | None, **options: Any) -> tamago.CompiledModel:
        """Within a budget, for batches."""
        words: dict[str, Any] = {
            "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},),
            "calibration": self.calibration,
            "threads": 1,
            "store": self.store,
        }
        return tamago.compile(self.model, (self.pictures[:BATCH],), budget=budget, **(words | options))

    def frontier(self, budget: tamago.Budget, rises: Sequence[float]) -> list[tamago.CompiledModel]:
        """By size."""
        return tamago.frontier(
            self.model,
            (self.pictures[:BATCH],),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            budget=budget,
            rises=rises,
            calibration=self.calibration,
            threads=1,
            store=self.store,
            objective="size",
        )

    def compile_for_few(self, budget: tamago.Budget) -> tamago.CompiledModel:
        """The smallest, judged two pictures at a time, so that predictions average over many batches."""
        return self.compile(budget, objective="size", workloads=[((self.pictures[:2],), 1.0)])

    def outputs(self, program: Any) -> Tensor:
        """Logits of the pictures that calibration did not have."""
        with torch.no_grad():
            return program(self.pictures[HELD:])

    def rise(self, compiled: tamago.CompiledModel) -> float:
        """How much the mean loss rises there, relatively: the lower bound, since it is a sample too."""
        before, after = (
            cross_entropy(self.outputs(p), self.labels[HELD:], reduction="none").tolist()
            for p in (self.model, compiled)
        )
        return paired_rise(before, after).lower()


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """Trained in a few seconds; prices are measured once for all tests."""
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(target)
    order = torch.randperm(len(labels))
    seen, held = order[:897], order[897:]
    model = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(6):
        for batch in seen[torch.randperm(len(seen))].split(64):
            loss = cross_entropy(model(pictures[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with Store.open(":memory:") as store:
        yield Trained(model.eval(), pictures[held], labels[held], store)


def account(compiled: tamago.CompiledModel) -> Approximation:
    found = compiled.report.approximation
    assert found is not None
    return found


def accuracy(outputs: Sequence[Any], targets: Sequence[Any]) -> float:
    right = [torch.argmax(o, -1) == t for o, t in zip(outputs, targets, strict=True)]
    return float(torch.cat(right).float().mean())


def check_the_exact_program(trained: Trained, compiled: tamago.CompiledModel) -> None:
    found = account(compiled)
    assert found.proof is None
    assert not found.choice
    assert "within the budget" not in compiled.report.verdict
    assert any("exact" in note for note in found.notes)
    torch.testing.assert_close(trained.outputs(compiled), trained.outputs(trained.model), rtol=1e-4, atol=1e-4)


def check_the_account(compiled: tamago.CompiledModel, allowed: float) -> None:
    found = account(compiled)
    assert found.proof is not None
    assert found.on_choosing is not None
    assert found.upper is not None
    assert found.proof.value <= found.upper <= allowed
    assert found.on_choosing.value <= allowed
    assert found.choice
    assert 1 <= found.attempts <= len(found.tried), "only what was measured where it was chosen is put to proof"
    assert found.proof.samples == found.verified_on == HELD - len(found.chosen_on)


@pytest.fixture(scope="module")
def small(trained: Trained) -> tamago.CompiledModel:
    """The usual budget."""
    return trained.compile(tamago.Budget(loss=cross_entropy, rise=0.02))


def test_the_result_is_within_budget_on_other_samples(trained: Trained, small: tamago.CompiledModel) -> None:
    check_the_account(small, 0.02)
    assert trained.rise(small) <= 0.02


def test_the_result_is_smaller_and_no_slower(small: tamago.CompiledModel) -> None:
    report = small.report
    assert report.verdict == "faster within the budget"
    assert report.after.bytes < 0.5 * report.before.bytes
    assert all(w.result < min(w.exact, w.original) for w in account(small).workloads)


def test_a_function_that_is_cross_entropy_is_taken_for_it(small: tamago.CompiledModel) -> None:
    assert account(small).loss == "cross-entropy"


def test_the_result_is_called_like_the_model(trained: Trained, small: tamago.CompiledModel) -> None:
    for count in (1, 7, BATCH):
        found = small(trained.pictures[:count])
        assert isinstance(found, Tensor)
        assert found.shape == (count, 10)
    assert not torch.equal(trained.outputs(small), trained.outputs(trained.model))


def test_the_report_carries_choice_proof_and_split(small: tamago.CompiledModel) -> None:
    found = json.loads(small.report.to_json())["approximation"]

    assert found["budget"] == "loss may rise by 2.000%"
    assert found["verified_on"] == HELD // 2
    assert len(found["chosen_on"]) == len(set(found["chosen_on"])) == HELD // 2
    assert set(found["chosen_on"]) <= set(range(HELD))
    assert found["proof"].keys() >= {"value", "error", "samples"}
    assert found["upper"] <= 0.02
    for choice in found["choice"]:
        assert choice.keys() >= {"place", "method", "setting", "rise", "cost", "stored"}
        assert choice["method"] != "exact"
        assert choice["rise"] >= 0
    assert len(found["workloads"]) == 1
    text = str(small.report)
    assert f"{account(small).workloads[0].ratio:.2f}x" in text, "its own speed, not the exact program's"
    assert small.report.timing is None
    assert small.report.error > 1e-4, "its own error as well"
    assert "loss may rise by 2.000%" in text
    assert all(choice["method"] in text for choice in found["choice"])


def test_explain_shows_every_place_and_what_was_chosen(small: tamago.CompiledModel) -> None:
    text = small.explain()

    starred = [line for line in text.splitlines() if line.startswith(" * ")]
    assert len(starred) == 3
    for choice in account(small).choice:
        assert any(choice.method in line and choice.setting in line for line in starred)


def test_the_result_is_saved_and_loaded(trained: Trained, small: tamago.CompiledModel, tmp_path: Any) -> None:
    small.save(tmp_path / "small.onnx")

    (found,) = tamago.load(tmp_path / "small.onnx", threads=1)(trained.pictures[HELD:].numpy())

    np.testing.assert_allclose(found, trained.outputs(small).numpy(), rtol=1e-4, atol=1e-4)


def test_a_budget_of_nothing_returns_the_exact_program(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.0))

    check_the_exact_program(trained, compiled)
    assert "nothing approximate was proved" in str(compiled.report)


def test_a_budget_finer_than_the_samples_resolve_is_not_claimed(trained: Trained) -> None:
    labels = trained.labels[:8]
    few = [((trained.pictures[i : i + 1],), labels[i : i + 1]) for i in range(8)]

    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=1e-6), calibration=few)

    check_the_exact_program(trained, compiled)


def test_a_wide_budget_on_a_metric(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(metric=accuracy, drop=0.05))

    check_the_account(compiled, 0.05)
    found = account(compiled)
    assert found.loss == "kl"
    assert found.predicted is None
    targets = list(trained.labels[HELD:].split(1))
    before, after = (accuracy(list(trained.outputs(p).split(1)), targets) for p in (trained.model, compiled))
    assert before - after <= 0.05 + 2 * (0.05 / len(targets)) ** 0.5


def test_a_narrow_budget_on_a_metric_is_kept_or_not_resolved(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(metric=accuracy, drop=0.01))

    if account(compiled).proof is None:
        check_the_exact_program(trained, compiled)
        assert any("calibration samples would" in note for note in account(compiled).notes)
    else:
        check_the_account(compiled, 0.01)


def test_without_a_loss_the_outputs_relative_error_is_bounded(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(rise=0.02), calibration=[(x, None) for (x,), _ in trained.calibration])

    check_the_account(compiled, 0.02)
    before, after = trained.outputs(trained.model), trained.outputs(compiled)
    assert 0 < float(torch.linalg.norm(after - before) / torch.linalg.norm(before)) <= 0.022
    assert account(compiled).loss == "distance"


def test_a_loss_below_zero_needs_an_absolute_bound(trained: Trained) -> None:
    def reward(outputs: Tensor, target: Tensor) -> Tensor:
        return -torch.softmax(outputs, -1).gather(-1, target[:, None]).mean()

    with pytest.raises(tamago.TamagoError) as error:
        trained.compile(tamago.Budget(loss=reward, rise=0.02))
    assert error.value.code == "U047"

    compiled = trained.compile(tamago.Budget(loss=reward, absolute=0.05))

    check_the_account(compiled, 0.05)
    assert account(compiled).loss == "function"
    held = trained.labels[HELD:]
    before, after = (float(reward(trained.outputs(p), held)) for p in (trained.model, compiled))
    assert after - before <= 0.05


@pytest.mark.parametrize("scores", [[0.0] * 40, [*[1.0] * 20, *[-2.0] * 20], [*[-2.0] * 20, *[1.0] * 20]])
def test_a_loss_that_is_not_above_zero_in_either_part_is_refused(trained: Trained, scores: list[float]) -> None:
    chosen = split([Sample({}, i) for i in range(40)]).chosen
    order = [*chosen, *(i for i in range(40) if i not in chosen)]
    given = {item: scores[place] for place, item in enumerate(order)}
    calibration = [(inputs, given[i]) for i, (inputs, _) in enumerate(trained.calibration[:40])]

    def loss(outputs: Tensor, target: float) -> Tensor:
        return 0 * outputs.sum() + target

    with pytest.raises(tamago.TamagoError, match="U047") as error:
        trained.compile(tamago.Budget(loss=loss), calibration=calibration)

    assert "absolute" in error.value.todo
    absolute = tamago.Budget(loss=loss, absolute=0.1)
    found = account(trained.compile(absolute, calibration=calibration, objective="size", methods="stored_weights"))
    assert found.upper == 0.0


def test_a_loss_that_fails_is_the_owners(trained: Trained) -> None:
    def broken(outputs: Tensor, target: Tensor) -> Tensor:
        raise KeyError("mask")

    with pytest.raises(tamago.TamagoError) as error:
        trained.compile(tamago.Budget(loss=broken))

    assert error.value.code == "U046"
    assert "mask" in error.value.why


class Begun(Exception):
    """Exact rewriting has begun."""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"budget": tamago.Budget(loss=lambda outputs, target: outputs.no_such_thing)}, "U046"),
        ({"budget": tamago.Budget(loss=lambda outputs, target: outputs)}, "U046"),
        ({"budget": tamago.Budget(loss="mse"), "calibration": []}, "U045"),
        ({"budget": tamago.Budget(metric=lambda outputs, targets: 1.0, drop=0.1), "calibration": [1, 2, 3, 4]}, "U044"),
    ],
    ids=["fails", "no number", "no samples", "no pairs"],
)
def test_what_is_wrong_with_a_loss_or_samples_is_said_before_anything_takes_long(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], code: str
) -> None:
    def begin(*arguments: object) -> None:
        raise Begun

    monkeypatch.setattr(main_line.MainLine, "once", begin)

    with pytest.raises(tamago.TamagoError) as error:
        trained.compile(**words)
    assert error.value.code == code
    with pytest.raises(Begun):
        trained.compile(tamago.Budget(loss=cross_entropy))
    with pytest.raises(Begun):
        trained.compile(tamago.Budget(metric=lambda outputs, targets: 1.0, drop=0.1))


def test_a_list_that_was_lengthened_proves_no_more(trained: Trained) -> None:
    few, words = trained.calibration[:20], {"objective": "size", "methods": "stored_weights"}
    long = trained.compile(tamago.Budget(loss="kl", rise=0.05), calibration=few * 8, **words)

    assert "all of the 160 samples are repeated: 20 are used, one of each" in account(long).notes
    assert account(long).verified_on == 10
    short = trained.compile(tamago.Budget(loss="kl", rise=0.05), calibration=few, **words)
    assert account(short).verified_on == 10
    assert not any("repeated" in note for note in account(short).notes)


def test_a_loss_that_is_no_number_is_the_owners(trained: Trained) -> None:
    with pytest.raises(tamago.TamagoError, match="U046"):
        trained.compile(tamago.Budget(loss=lambda outputs, target: None))


def test_a_metric_written_for_one_sample_is_told_what_it_gets(trained: Trained) -> None:
    def accuracy(outputs: Any, target: Any) -> float:
        return float((outputs.argmax(-1) == target).float().mean())

    with pytest.raises(tamago.TamagoError, match="U046") as error:
        trained.compile(tamago.Budget(metric=accuracy, drop=0.05))

    assert "lists of all samples' outputs and targets" in str(error.value)


def test_a_loss_may_work_in_place(trained: Trained) -> None:
    def cooled(outputs: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(outputs.mul_(0.9), target)

    check_the_account(trained.compile(tamago.Budget(loss=cooled, rise=0.05), objective="size"), 0.05)


def test_a_loss_without_a_gradient_is_the_owners(trained: Trained) -> None:
    def overwritten(outputs: Tensor, target: Tensor) -> Tensor:
        return outputs.sigmoid().mul_(2.0).mean()

    def counted(outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs.argmax(-1) != target).float().mean()

    for loss in (overwritten, counted):
        with pytest.raises(tamago.TamagoError, match="U046"):
            trained.compile(tamago.Budget(loss=loss, absolute=0.05))


def broken(trained: Trained, item: int) -> list[tuple[tuple[Tensor], Tensor]]:
    """A calibration with one item that the model has no finite answer for."""
    found = trained.calibration[:40]
    return [*found[:item], ((torch.full_like(found[0][0][0], float("nan")),), found[0][1]), *found[item:]]


@pytest.mark.parametrize("item", [5, 6, 7, 8])  # some choose, some prove
@pytest.mark.parametrize("loss", [cross_entropy, "kl", "mse", None])
def test_a_sample_without_a_finite_loss_is_named(trained: Trained, item: int, loss: Any) -> None:
    with pytest.raises(tamago.TamagoError, match="U047") as error:
        trained.compile(tamago.Budget(loss=loss), calibration=broken(trained, item))

    assert error.value.where == f"calibration item {item}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, torch.tensor(True), None])
def test_a_metric_that_is_no_number_is_refused(trained: Trained, value: Any) -> None:
    with pytest.raises(tamago.TamagoError, match=r"U046|U047"):
        trained.compile(tamago.Budget(metric=lambda outputs, targets: value, drop=0.01))


def test_six_equal_answers_prove_nothing_of_half_a_point(trained: Trained) -> None:
    few = trained.calibration[:8]

    compiled = trained.compile(tamago.Budget(metric=accuracy, drop=0.005), objective="size", calibration=few)

    assert account(compiled).proof is None
    assert any("calibration samples would" in note for note in account(compiled).notes)


def test_fewer_bytes_are_wanted_where_size_is_the_objective(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.1), objective="size")

    check_the_account(compiled, 0.1)
    assert compiled.report.verdict == "smaller within the budget"
    assert compiled.report.after.bytes < 0.25 * compiled.report.before.bytes
    assert trained.rise(compiled) <= 0.1


def test_a_cap_on_size_is_met(trained: Trained) -> None:
    cap = 200_000

    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.05, size=cap))

    check_the_account(compiled, 0.05)
    assert compiled.report.after.bytes <= cap


def test_a_cap_that_nothing_meets_is_said(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.05, size=1000))

    assert account(compiled).proof is None
    assert any("caps" in note for note in account(compiled).notes)


def test_portable_programs_hold_no_other_operators(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.05), portable=True, objective="size")

    check_the_account(compiled, 0.05)
    assert {n.domain for n in compiled.graph.graph} == {""}


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), "1", None])
def test_a_workload_has_a_weight(trained: Trained, weight: Any) -> None:
    with pytest.raises(tamago.TamagoError, match="U051") as error:
        trained.compile(tamago.Budget(), workloads=[((trained.pictures[:1],), 1.0), ((trained.pictures[:2],), weight)])

    assert error.value.where == "workload 1"


def test_a_workload_is_a_pair(trained: Trained) -> None:
    with pytest.raises(tamago.TamagoError, match="U051"):
        trained.compile(tamago.Budget(), workloads=[(trained.pictures[:1],)])


@pytest.mark.parametrize("given", ["budget", "calibration"])
def test_budget_and_calibration_belong_together(given: str, trained: Trained) -> None:
    words: dict[str, Any] = {"budget": tamago.Budget(), "calibration": trained.calibration}

    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(trained.model, (trained.pictures[:1],), **{given: words[given]})

    assert error.value.code == "U048"


def test_the_predicted_divergence_is_the_measured_one(trained: Trained) -> None:
    compiled = trained.compile_for_few(tamago.Budget(loss="kl", absolute=0.002))

    check_the_account(compiled, 0.002)
    check_that_it_can_be_told(account(compiled))
    check_the_prediction(account(compiled))
    exact, found = (log_softmax(trained.outputs(p), -1) for p in (trained.model, compiled))
    assert float(kl_div(found, exact, reduction="batchmean", log_target=True)) <= 0.002


@pytest.mark.parametrize("rise", [0.02, 0.05])
def test_the_predicted_relative_error_is_the_measured_one(rise: float, trained: Trained) -> None:
    compiled = trained.compile_for_few(tamago.Budget(rise=rise))

    check_the_account(compiled, rise)
    check_that_it_can_be_told(account(compiled))
    check_the_prediction(account(compiled))


def test_the_predicted_rise_of_cross_entropy_is_the_measured_one(trained: Trained) -> None:
    compiled = trained.compile_for_few(tamago.Budget(loss=cross_entropy, rise=0.2))

    check_the_account(compiled, 0.2)
    check_the_prediction(account(compiled))


def check_the_prediction(found: Approximation) -> None:
    """0.7 to 1.4 times what was measured, which is itself known to a few standard errors only."""
    evidence = [e for e in (found.proof, found.on_choosing) if e is not None]
    assert evidence
    assert found.predicted is not None
    for measured in evidence:
        assert (
            0.7 * (measured.value - 3 * measured.error)
            <= found.predicted
            <= 1.4 * (measured.value + 3 * measured.error)
        )


def check_that_it_can_be_told(found: Approximation) -> None:
    """The measured rise stands above its sampling error, so that a prediction of nothing would be seen."""
    assert found.proof is not None
    assert found.proof.value > 4 * found.proof.error


def test_neighbours_of_one_shape_run_together_up_to_the_batch() -> None:
    shapes = [(1, 3), (2, 3), (1, 3), (1, 3), (1, 4), (5, 4), (1, 4)]
    samples = [Sample({"x": np.ones(shape, np.float32)}, None) for shape in shapes]

    groups = together(samples, 4)

    assert [[s.feeds["x"].shape for s in g] for g in groups] == [
        shapes[:3],
        shapes[3:4],
        shapes[4:5],
        shapes[5:6],
        shapes[6:],
    ]


def test_torch_targets_are_stacked_and_others_are_not() -> None:
    x = np.ones((1, 3), np.float32)

    found = stacked([Sample({"x": x}, torch.tensor([1])), Sample({"x": x}, torch.tensor([2]))])

    assert found is not None
    assert found.target.tolist() == [1, 2]
    assert stacked([Sample({"x": x}, 1), Sample({"x": x}, 2)]) is None
    assert stacked([Sample({"x": x}, torch.tensor(1)), Sample({"x": x}, torch.tensor(2))]) is None


def test_an_interrupted_search_returns_the_exact_program(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(search: Search) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "prepare", interrupt)

    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.1))

    assert any("interrupted" in note for note in account(compiled).notes)
    assert account(compiled).proof is None


def test_an_interrupted_measurement_leaves_what_was_chosen_before(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Search.measure
    calls: list[Any] = []

    def second_time_interrupted(search: Search, *args: Any) -> Found:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(search, *args)

    monkeypatch.setattr(Search, "measure", second_time_interrupted)

    compiled = trained.compile(tamago.Budget(loss="kl", rise=0.05), objective="size")

    assert calls
    assert account(compiled).tried


def test_the_front_gets_cheaper_from_bound_to_bound(trained: Trained) -> None:
    front = trained.frontier(tamago.Budget(loss="kl"), rises=(0.001, 0.02))

    sizes = [c.report.after.file for c in front]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    for compiled in front[1:]:
        assert account(compiled).upper is not None


@pytest.mark.parametrize("rises", [[-0.01], [0.01, "0.1"], [float("nan")]])
def test_a_bound_that_makes_no_sense_is_refused_before_any_work(rises: Any) -> None:
    with pytest.raises(tamago.TamagoError, match="U043"):
        tamago.frontier(nn.Identity(), budget=tamago.Budget(), calibration=[], rises=rises)


@pytest.mark.parametrize("budget", [None, 0.01])
def test_a_frontier_without_a_budget_is_refused_before_any_work(budget: Any) -> None:
    with pytest.raises(tamago.TamagoError, match="U043"):
        tamago.frontier(nn.Identity(), budget=budget, calibration=[])


def test_the_summary_has_the_speed_on_every_workload(trained: Trained) -> None:
    """Of two, the first may be the one that gained nothing."""
    two = [((trained.pictures[:1],), 1.0), ((trained.pictures[:8],), 1.0)]
    compiled = trained.compile(tamago.Budget(loss="kl", rise=0.05), objective="size", workloads=two)
    spent = account(compiled)

    assert len(spent.workloads) == 2
    assert compiled.report.summary().count("x (") == 2
    for text in (compiled.report.summary(), str(compiled.report), "\n".join(spent.lines())):
        assert all(f"[{rows}, 64]" in text for rows in (1, 8)), "which speed is of which shapes"


@pytest.mark.parametrize(("name", "reason"), [("2:4", "no kernel"), ("nothing_known", "gptq")])
def test_a_method_that_is_not_offered_is_answered_with_a_reason(trained: Trained, name: str, reason: str) -> None:
    with pytest.raises(tamago.TamagoError, match="U050") as caught:
        trained.compile(tamago.Budget(loss="kl"), methods=[name])

    assert reason in str(caught.value)


@pytest.mark.parametrize("methods", [["stored_weights"], "stored_weights"])
def test_only_the_methods_that_may_be_used_are(trained: Trained, methods: Any) -> None:
    compiled = trained.compile(tamago.Budget(loss="kl", rise=0.05), objective="size", methods=methods)

    assert {a.method for a in account(compiled).choice} == {"stored_weights"}


def test_what_is_smaller_but_slower_makes_room_for_what_only_stores_less(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = {"MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul"}
    answers = list[str | None]()

    def refuses(sides: Sides, model: Any, times: Any) -> str | None:
        runs = {n.op_type for n in model.graph.all_nodes()}
        answers.append("is smaller but slower" if runs & slower else None)
        return answers[-1]

    monkeypatch.setattr(Sides, "refuses", refuses)
    compiled = trained.compile_for_few(tamago.Budget(loss=cross_entropy, rise=0.03))

    found = account(compiled)
    assert found.proof is not None
    assert "stored_weights" in {a.method for a in found.choice}
    assert not {n.op_type for n in compiled.graph.graph.all_nodes()} & slower
    assert len(answers) > answers.count(None) >= found.attempts, "a program that is slower costs no proof"
    assert any("smaller but slower" in note for note in found.notes)


def test_where_all_that_is_smaller_is_slower_fewer_rules_are_tried(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration that can be read once only serves both searches."""
    searched, real = list[Any](), within_budget.approximate

    def approximate(request: Any, original: Any, exact: Any, *args: Any, **options: Any) -> list[Result]:
        searched.append(exact)
        results = real(request, original, exact, *args, **options)
        if len(searched) > 1:
            return results
        said = Approximation("", 0.0, "", (), 0, refused=[("the program", "forms", "is smaller but slower, 0.90x")])
        return [Result(None, None, said, [])]

    monkeypatch.setattr(within_budget, "approximate", approximate)
    once = (pair for pair in trained.calibration)
    words: dict[str, Any] = {"objective": "size", "calibration": once, "methods": "stored_weights"}
    compiled = trained.compile(tamago.Budget(loss=cross_entropy, rise=0.02), **words)

    assert len(searched) == 2
    assert searched[0] is not searched[1]
    assert compiled.report.verdict == "smaller within the budget"
    assert account(compiled).proof is not None


@dataclass(frozen=True)
class Offered:
    """As much of a program's tables as says whose they are."""

    structure: str
    methods: tuple[str, ...] = ()

    def with_methods(self, names: Sequence[str]) -> Offered:
        return Offered(self.structure, tuple(names))


def test_a_narrower_program_that_is_slower_makes_room_for_it_with_less_stored() -> None:
    """Or the choice among all methods is larger than the choice among some."""
    tried: list[Offered] = []
    search: Any = SimpleNamespace(task=SimpleNamespace(size=True), outcome=Outcome(), exact=Offered(""))
    search.candidates = lambda tables, allowed: tried.append(tables) or []
    proof: Any = Proof(search, 0.01)

    for tables in (Offered("taylor 10%"), Offered("taylor 10%"), Offered("taylor 10%", STORING)):
        assert proof._instead(SimpleNamespace(tables=tables), "is smaller but slower", []) == []

    assert tried == [Offered("", STORING), Offered("taylor 10%", STORING)]
