"""Retraining after the choice: norms and biases alone win some of the loss back, on samples that they did not see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper, parser
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate import gain
from tamago.compiler.approximate.account import Approximation
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.losses import LossModel
from tamago.compiler.approximate.method import Form, Inputs
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.repair import Contents, Damaged, Repair, with_contents
from tamago.compiler.approximate.straight_through import straight_through
from tamago.compiler.approximate.structure import Observed
from tamago.compiler.approximate.trainable import trainable
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.facts import Array
from tamago.compiler.files import from_proto
from tamago.compiler.inference import infer
from tamago.compiler.rule import Skip
from tamago.compiler.torch_program import torch_program
from tamago.rewrites import all_methods, all_preparations, all_structures, chosen_by_name
from tamago.rewrites.pruning.l1 import l1
from tamago.rewrites.quantization.block_weights import block_weights
from tamago.rewrites.quantization.dynamic_int8 import dynamic_int8
from tamago.rewrites.quantization.per_token_int8 import per_token_int8
from tamago.rewrites.quantization.static_int8 import static_int8
from tamago.rewrites.quantization.static_int8_convolution import static_int8_convolution
from tamago.rewrites.retraining.perp import perp

TARGET = OnnxRuntime(threads=1)
WIDTH = 96
SEEN = 200  # of the held-out pictures, by what is retrained
HELD = 600  # for calibration
DIVERGENCE = LossModel("kl", None, lambda outputs: outputs)


class Block(nn.Module):
    """A layer beside what passes it by."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU())
        self.back = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.layers(x))


@dataclass(frozen=True)
class Trained:
    """A classifier of digits, the exact program of it, and digits that it has not seen."""

    model: nn.Module
    program: ir.Model
    pictures: Tensor
    labels: Tensor

    @property
    def samples(self) -> list[Sample]:
        """What retraining may see."""
        return [Sample(self.feeds(slice(i, i + 8)), None) for i in range(0, SEEN, 8)]

    def feeds(self, part: slice) -> dict[str, Array]:
        return {self.program.graph.inputs[0].name or "": self.pictures[part].numpy()}

    def damaged(self, model: ir.Model) -> Damaged:
        return Damaged(model, TARGET.lower(self.program), self.samples, DIVERGENCE, 30.0)

    def divergence(self, model: ir.Model) -> float:
        """From the original's distribution, on digits that retraining did not see."""
        unseen = self.feeds(slice(SEEN, None))
        wanted, found = (torch.from_numpy(TARGET.lower(m)(unseen)[0]) for m in (self.program, model))
        return float(DIVERGENCE.distance([found], [wanted]))

    def pruned(self) -> ir.Model:
        """Half of the channels gone, those of the least weights."""
        *_, last = l1.function(Observed(self.program, self.samples, DIVERGENCE))
        return last.model

    def rounded(self) -> ir.Model:
        """Every product in 4 bit, to the nearest."""
        places = find_places(self.program.graph)
        return put(self.program, places, {p.y.name or "": four_bit(p) for p in places})

    def compile(self, **options: Any) -> tamago.CompiledModel:
        """By size, within a divergence from the original."""
        words: dict[str, Any] = {
            "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},),
            "budget": tamago.Budget(loss="kl", absolute=0.01),
            "calibration": [((self.pictures[i : i + 1],), None) for i in range(HELD)],
            "threads": 1,
            "objective": "size",
            "methods": ["stored_weights", "perp"],
        }
        return tamago.compile(self.model, (self.pictures[:16],), **(words | options))


def four_bit(place: Place) -> Chosen:
    (form,) = [f for f in block_weights.forms(place, Inputs(())) if f.setting == "4 bit, blocks of 32"]
    return Chosen("block_weights", form)


@pytest.fixture(scope="module", autouse=True)
def _time_decides_nothing() -> Iterator[None]:
    """Programs of microseconds beside a busy suite: that what is slower is not returned has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gain, "NO_SLOWER", 0.0)
        yield


@pytest.fixture(scope="module")
def trained() -> Trained:
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(target)
    order = torch.randperm(len(labels))
    seen, held = order[:897], order[897:]
    model = nn.Sequential(nn.Linear(64, WIDTH), Block(), Block(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(8):
        for batch in seen[torch.randperm(len(seen))].split(64):
            loss = cross_entropy(model(pictures[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    program = tamago.compile(
        model.eval(), (pictures[:8],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), threads=1, measure=False
    ).graph
    return Trained(model, program, pictures[held], labels[held])


def account(compiled: tamago.CompiledModel) -> Approximation:
    found = compiled.report.approximation
    assert found is not None
    return found


# --- what it is worth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "part"), [("rounded", 0.6), ("pruned", 0.97)])
def test_a_damaged_program_diverges_less_where_it_was_not_trained(how: str, part: float, trained: Trained) -> None:
    model = trained.rounded() if how == "rounded" else trained.pruned()
    before = trained.divergence(model)

    *_, contents = perp.function(trained.damaged(model))

    assert trained.divergence(with_contents(model.clone(), contents)) < part * before


def test_weights_stay_and_nothing_is_added(trained: Trained) -> None:
    model = trained.rounded()
    contents = next(iter(perp.function(trained.damaged(model))))
    before = {n: v.const_value.numpy() for n, v in model.graph.initializers.items() if v.const_value is not None}

    mended = with_contents(model.clone(), contents)

    assert {n.op_type for n in mended.graph} == {n.op_type for n in model.graph}
    for name, value in mended.graph.initializers.items():
        assert value.const_value is not None
        assert np.array_equal(value.const_value.numpy(), before[name]) == (name not in contents)
    assert all(before[name].ndim == 1 for name in contents)
    assert len(contents) >= 6 + 3  # a bias for each product, scales of normalisations, and shifts that were not folded


# --- in a search ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mended(trained: Trained) -> tamago.CompiledModel:
    return trained.compile()


def test_the_result_is_proved_like_any_other_and_reported(trained: Trained, mended: tamago.CompiledModel) -> None:
    found = account(mended)

    assert found.repair.startswith("perp: ")
    assert found.proof is not None
    assert found.upper is not None
    assert found.proof.value <= found.upper <= 0.01
    assert found.proof.samples == HELD - len(found.chosen_on)
    assert f"retrained: {found.repair}" in str(mended.report)
    assert found.repair in mended.explain()
    assert found.repair == mended.report.to_dict()["approximation"]["repair"]
    with torch.no_grad():
        outputs = [p(trained.pictures[HELD:]) for p in (mended, trained.model)]
    assert float(DIVERGENCE.distance(outputs[:1], outputs[1:])) <= 0.01


def test_without_being_asked_for_nothing_is_retrained(trained: Trained) -> None:
    found = account(trained.compile(methods=["stored_weights"]))

    assert found.repair == ""
    assert found.choice
    assert not any(t.predicted is None for t in found.tried)


def test_names_ask_for_it() -> None:
    assert chosen_by_name(None) == (all_methods(), all_preparations(), all_structures(), ())
    assert chosen_by_name(["perp"]) == (all_methods(), all_preparations(), all_structures(), (perp,))
    assert chosen_by_name(["block_weights", "perp"]) == ((block_weights,), (), (), (perp,))
    assert chosen_by_name(["block_weights"]) == ((block_weights,), (), (), ())


def repair_of(function: Any) -> Repair:
    return Repair("other", "retraining", "nobody", "…", function)


def with_repair(trained: Trained, monkeypatch: pytest.MonkeyPatch, function: Any) -> tamago.CompiledModel:
    monkeypatch.setattr("tamago.rewrites.all_repairs", lambda: (repair_of(function),))
    return trained.compile(methods=["stored_weights", "other"])


def test_what_proves_is_not_shown_to_a_repair(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Sample] = []

    def looks(damaged: Damaged) -> Iterator[Contents]:
        shown.extend(damaged.samples)
        yield {}

    found = account(with_repair(trained, monkeypatch, looks))

    rows = {row.tobytes() for s in shown for array in s.feeds.values() for row in array}
    pictures = trained.pictures[:HELD].numpy()
    seen = {number for number in range(HELD) if pictures[number].tobytes() in rows}
    assert seen
    assert seen <= set(found.chosen_on[::2])
    assert all(s.target is None for s in shown)


def test_an_interrupted_repair_leaves_what_was_found(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(damaged: Damaged) -> Iterator[Contents]:
        yield {}
        raise KeyboardInterrupt

    found = account(with_repair(trained, monkeypatch, interrupted))

    assert "interrupted: what was retrained until then was put to proof" in found.notes
    assert found.proof is not None
    assert found.repair == ""


@pytest.mark.parametrize(
    ("error", "reason"), [(Skip("no bias"), "no bias"), (RuntimeError("no gradient"), "it failed")]
)
def test_a_repair_that_cannot_is_refused_with_its_reason(
    error: Exception, reason: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(damaged: Damaged) -> Iterator[Contents]:
        raise error
        yield {}

    found = account(with_repair(trained, monkeypatch, refuses))

    assert any(name == "other" and reason in said for _, name, said in found.refused)
    assert found.proof is not None


def test_too_little_time_is_said(trained: Trained) -> None:
    damaged = trained.damaged(trained.rounded())
    hurried = Damaged(damaged.model, damaged.original, damaged.samples, damaged.loss, 1e-6)

    with pytest.raises(Skip, match="too few to learn from"):
        list(perp.function(hurried))


# --- what may be trained --------------------------------------------------------------------------------------------

CONSTANTS: dict[str, Array] = {
    "w": np.ones((32, 32), np.float32),
    "k": np.ones((32, 32, 3, 3), np.float32),
    "g": np.ones(32, np.float32),
    "h": np.zeros(32, np.float32),
    "b": np.zeros(32, np.float32),
    "positions": np.ones((4, 32), np.float32),
    "eps": np.asarray(1e-5, np.float32),
}
VECTORS, IMAGES = "float[N,4,32]", "float[N,32,8,8]"


def model_of(body: str, kind: str = VECTORS) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : 23]> net ({kind} x) => ({kind} y) {{ {body} }}'
    proto = parser.parse_model(text)
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(CONSTANTS[n], n) for n in sorted(CONSTANTS.keys() & read))
    model = from_proto(proto)
    infer(model)
    return model


def names(model: ir.Model) -> set[str]:
    return {constant.stored for constant in trainable(model)[1]}


@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        ("y = LayerNormalization (x, g, h)", VECTORS, {"g", "h"}),
        ("y = RMSNormalization (x, g)", VECTORS, {"g"}),
        ("y = InstanceNormalization (x, g, h)", IMAGES, {"g", "h"}),
        ("y = Conv <pads = [1,1,1,1]> (x, k, b)", IMAGES, {"b"}),
        ("p = MatMul (x, w)  y = Add (p, b)", VECTORS, {"b"}),
        ("p = MatMul (x, w)  y = Add (b, p)", VECTORS, {"b"}),
        ("p = MatMul (x, w)  y = Add (p, positions)", VECTORS, set[str]()),
        ("p = MatMul (x, w)  y = Add (p, eps)", VECTORS, set[str]()),
        ("p = Relu (x)  y = Add (p, b)", VECTORS, set[str]()),
        ("p = MatMul (x, w)  q = Add (p, b)  y = Mul (q, b)", VECTORS, set[str]()),
        ("y = MatMul (x, w)", VECTORS, set[str]()),
    ],
)
def test_scales_shifts_and_biases_are_found(body: str, kind: str, wanted: set[str]) -> None:
    assert names(model_of(body, kind)) == wanted


def test_a_program_without_any_is_refused(trained: Trained) -> None:
    with pytest.raises(Skip, match="neither normalisations nor biases"):
        next(iter(perp.function(trained.damaged(model_of("y = MatMul (x, w)")))))


def linear(function: Any, inputs: Inputs) -> tuple[ir.Model, Array, Array]:
    """A product with a bias in a form, by itself, what it reads, and its weight."""
    generator = np.random.default_rng(0)
    model = model_of("p = MatMul (x, w)  y = Add (p, b)")
    for name in ("w", "b"):
        array = generator.standard_normal(CONSTANTS[name].shape).astype(np.float32)
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    (place,) = find_places(model.graph)
    form: Form = function.forms(place, inputs)[0]
    x = generator.standard_normal((8, 32)).astype(np.float32)
    return alone(form.term, ir.DataType.FLOAT, 2), x, place.weight


FORMS = {
    "dynamic_int8": partial(linear, dynamic_int8, Inputs(())),
    "per_token_int8": partial(linear, per_token_int8, Inputs(())),
    "static_int8": partial(linear, static_int8, Inputs((np.asarray([[-4, 4]], np.float32),))),
    "block_weights": partial(linear, block_weights, Inputs(())),
}


@pytest.mark.parametrize("name", FORMS)
def test_rounding_is_kept_forwards_and_passed_backwards(name: str) -> None:
    model, x, weight = FORMS[name]()
    assert len(trainable(model)[1]) == 1
    plain, program = torch_program(model), straight_through(torch_program(model))
    given = torch.from_numpy(x).requires_grad_()

    (found,) = program(given)
    (gradient,) = torch.autograd.grad(found.sum(), given)

    torch.testing.assert_close(found, plain(torch.from_numpy(x))[0], rtol=1e-5, atol=1e-5)
    # Of a row it is the sum of the weight's columns, but for the largest element where that makes the scale.
    torch.testing.assert_close(gradient.median(0).values, torch.from_numpy(weight.sum(1)), rtol=0, atol=0.3)


def test_the_bias_of_an_integer_convolution_is_trained_in_numbers_and_kept_in_codes() -> None:
    model, x = model_of("y = Conv <pads = [1,1,1,1]> (x, k, b)", IMAGES), np.ones((1, 32, 8, 8), np.float32)
    (place,) = find_places(model.graph)
    y = np.asarray(TARGET.lower(model)({"x": x})[0])
    form = static_int8_convolution.forms(place, Inputs((x,), (y,)))[0]
    written = put(model, [place], {"y": Chosen("static_int8_convolution", form)})

    copy, (bias,) = trainable(written)

    numbers = copy.graph.initializers[bias.name].const_value
    codes = written.graph.initializers[bias.stored].const_value
    assert numbers is not None
    assert codes is not None
    assert (numbers.dtype, codes.dtype) == (ir.DataType.FLOAT, ir.DataType.INT32)
    np.testing.assert_array_equal(bias.contents(numbers.numpy()), codes.numpy())
    moved = with_contents(written.clone(), {bias.stored: bias.contents(numbers.numpy() + np.float32(1))})
    before, after = (np.asarray(TARGET.lower(m)({"x": x})[0]) for m in (written, moved))
    assert float(np.mean(after - before)) == pytest.approx(1, abs=2 * float(np.ptp(y)) / 255 + 0.6)


def test_codes_do_not_wrap() -> None:
    _, (bias,) = trainable(_with_codes())

    np.testing.assert_array_equal(bias.contents(np.asarray([1e30, -1e30], np.float32)), [2**31 - 1, -(2**31) + 1])


def _with_codes() -> ir.Model:
    text = (
        '<ir_version: 10, opset_import: ["" : 23]> net (float[N,2,8,8] x) => (float[N,2,6,6] y) '
        "{ b = DequantizeLinear <axis = 0> (q, s)  y = Conv (x, k, b) }"
    )
    proto = parser.parse_model(text)
    arrays: Sequence[tuple[str, Array]] = [
        ("k", np.ones((2, 2, 3, 3), np.float32)),
        ("q", np.asarray([1, 2], np.int32)),
        ("s", np.asarray([0.5, 0.25], np.float32)),
    ]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays)
    return from_proto(proto)
