"""A model in half precision gets what the same model in single precision gets, and is judged as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tamago
from tamago.compiler import main_line
from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.losses import loss_model
from tamago.compiler.store import Store

HELD = 600  # for calibration; what is left of the held-out digits judges
BATCH = 64
WIDTH = 256


class Positions(nn.Module):
    """Rows of a picture as vectors with positions, normalised: products, a normalisation and a table of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.positions = nn.Linear(8, 64), nn.Parameter(torch.randn(8, 64) * 0.1)
        self.norm, self.wide, self.classes = nn.LayerNorm(512), nn.Linear(512, WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.relu(self.rows(x.reshape(-1, 8, 8)) + self.positions)
        return self.classes(torch.relu(self.wide(self.norm(rows.flatten(1)))))


@dataclass(frozen=True)
class Trained:
    """A classifier of digits in half precision, and digits it has not seen."""

    model: nn.Module
    pictures: Tensor
    labels: Tensor
    store: Store

    @property
    def calibration(self) -> list[tuple[tuple[Tensor], Tensor]]:
        return [((self.pictures[i : i + 1],), self.labels[i : i + 1]) for i in range(HELD)]

    def compile(self, budget: tamago.Budget | None, **options: Any) -> tamago.CompiledModel:
        words: dict[str, Any] = {"calibration": self.calibration} if budget is not None else {}
        return tamago.compile(
            self.model,
            (self.pictures[:BATCH],),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            budget=budget,
            threads=1,
            store=self.store,
            **(words | options),
        )

    def loss(self, program: Any) -> float:
        """On digits that calibration did not have."""
        with torch.no_grad():
            return float(cross_entropy(program(self.pictures[HELD:]).float(), self.labels[HELD:]))


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(target)
    order = torch.randperm(len(labels))
    seen, held = order[:897], order[897:]
    model = Positions()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(6):
        for batch in seen[torch.randperm(len(seen))].split(64):
            loss = cross_entropy(model(pictures[batch]), labels[batch], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with Store.open(":memory:") as store:
        yield Trained(model.eval().half(), pictures[held].half(), labels[held], store)


def account(compiled: tamago.CompiledModel) -> Approximation:
    found = compiled.report.approximation
    assert found is not None
    return found


def saved(compiled: tamago.CompiledModel, folder: Path) -> Path:
    """In a file, whose inputs and outputs are in half as the model's are."""
    path = folder / "model.onnx"
    compiled.save(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {v.type for v in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float16)"}
    return path


def methods(compiled: tamago.CompiledModel) -> set[str]:
    return {a.method for a in account(compiled).choice}


def check_within(trained: Trained, compiled: tamago.CompiledModel, rise: float) -> None:
    found = account(compiled)
    assert found.upper is not None
    assert found.upper <= rise
    assert compiled(trained.pictures[:4]).dtype == torch.float16
    assert trained.loss(compiled) <= trained.loss(trained.model) * (1 + 2 * rise)  # a sample too


def test_forms_are_found_that_are_faster(trained: Trained, tmp_path: Path) -> None:
    compiled = trained.compile(tamago.Budget(loss="cross-entropy", rise=0.02))

    check_within(trained, compiled, 0.02)
    assert compiled.report.verdict == "faster within the budget"
    assert methods(compiled) - {"stored_weights"}
    assert any("single precision" in note for note in compiled.report.notes)
    assert saved(compiled, tmp_path).stat().st_size < compiled.report.before.file


def test_forms_are_found_that_are_smaller_than_the_file_in_half(trained: Trained, tmp_path: Path) -> None:
    compiled = trained.compile(tamago.Budget(loss="cross-entropy", rise=0.02), objective="size")

    check_within(trained, compiled, 0.02)
    assert compiled.report.verdict == "smaller within the budget"
    size = saved(compiled, tmp_path).stat().st_size
    assert size < 0.6 * compiled.report.before.file
    assert size == pytest.approx(compiled.report.after.file, rel=0.01)  # of a saved file its signature is a part


def test_what_no_form_replaces_stays_as_small_as_it_was(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss="cross-entropy", rise=0.02), methods=["embedding_int8"])

    assert compiled.report.after.file <= 1.05 * compiled.report.before.file


def test_without_a_budget_the_clock_decides_and_weights_stay_in_half(trained: Trained) -> None:
    compiled = trained.compile(None)
    with torch.no_grad():
        wanted = trained.model(trained.pictures[HELD:])

    torch.testing.assert_close(compiled(trained.pictures[HELD:]), wanted, rtol=1e-2, atol=1e-2)
    assert compiled.report.after.file <= 1.05 * compiled.report.before.file


def test_by_size_alone_nothing_is_written_wider(trained: Trained) -> None:
    compiled = trained.compile(None, objective="size")

    assert not any("single precision" in note for note in compiled.report.notes)
    assert compiled.report.after.file <= compiled.report.before.file


def test_only_bit_identical_rules_change_no_precision(trained: Trained) -> None:
    compiled = trained.compile(tamago.Budget(loss="cross-entropy", rise=0.02), drift="none")

    assert not any("single precision" in note for note in compiled.report.notes)
    assert not methods(compiled)


def test_a_loss_in_half_is_known_for_what_it_is() -> None:
    outputs, labels = [torch.randn(1, 10, generator=torch.Generator().manual_seed(2)).half()], torch.tensor([3])
    sample = Sample({}, labels)

    assert loss_model(tamago.Budget(loss=cross_entropy), lambda o: o[0], outputs, sample).kind == "cross-entropy"
    smoothed = tamago.Budget(loss=lambda o, t: cross_entropy(o, t, label_smoothing=0.1))
    assert loss_model(smoothed, lambda o: o[0], outputs, sample).kind == "function"


def test_large_outputs_in_half_do_not_overflow_where_they_are_squared() -> None:
    outputs = [torch.full((4, 512), 300.0, dtype=torch.float16, requires_grad=True)]
    model = loss_model(tamago.Budget(rise=0.1), lambda o: o[0], outputs, Sample({}, None))
    found = model.curvature(outputs, None, torch.Generator().manual_seed(0))

    assert found.factor == pytest.approx(1 / (4 * 512 * 300.0**2))
    given = [o.detach() for o in outputs]
    assert float(model.distance(given, [2 * given[0]])) == pytest.approx(0.25, rel=1e-3)


def file_of(text: str, folder: Path, **weights: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "my.own" : 1]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    path = folder / "in.onnx"
    onnx.save(model, path)
    return path


def test_a_model_in_single_precision_goes_the_way_it_went(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    for name in ("in_single_precision", "stored_in_half", "round_weights_to_half"):
        monkeypatch.setattr(main_line, name, never)
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    path = file_of("g (float[8, 32] x) => (float[8, 32] y) { a = MatMul(x, w) y = Relu(a) }", tmp_path, w=weight)
    with Store.open(":memory:") as store:
        assert tamago.compile(path, store=store, threads=1).report.before.parameters == weight.size


def test_what_half_could_not_hold_in_between_is_held_as_the_runtime_holds_it(tmp_path: Path) -> None:
    weight = np.eye(64, dtype=np.float16)
    text = "g (float16[8, 64] x) => (float16[8, 64] y) { a = MatMul(x, w) b = Mul(a, a) c = Mul(b, b) y = Mul(c, s) }"
    path = file_of(text, tmp_path, w=weight, s=np.asarray(2.0**-12, np.float16))
    inputs = {"x": np.full((8, 64), 30.0, np.float16)}
    with Store.open(":memory:") as store:
        found = tamago.compile(path, inputs, store=store, threads=1)
    (before,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    (after,) = found(**inputs)

    np.testing.assert_array_equal(before, after)
    assert np.isfinite(np.asarray(before)).all()


def test_weights_that_rewriting_computes_are_halves_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kernel = (0.1 * generator.standard_normal((64, 32, 3, 3))).astype(np.float16)
    norm = {n: (1 + 0.3 * generator.random(64)).astype(np.float16) for n in ("s", "b", "m", "v")}
    text = """g (float16[1, 32, 16, 16] x) => (float16[1, 64, 14, 14] y) {
        a = Conv(x, k)
        y = BatchNormalization(a, s, b, m, v)
    }"""
    path, out = file_of(text, tmp_path, k=kernel, **norm), tmp_path / "out.onnx"
    with Store.open(":memory:") as store:
        tamago.optimize(path, out, store=store, threads=1)
    large = [t for t in onnx.load(out).graph.initializer if np.prod(t.dims) == kernel.size]

    assert [t.data_type for t in large] == [int(ir.DataType.FLOAT16)]
