"""Scales between a normalisation and all that reads it: exact, in the same operators, and better to round."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.losses import LossModel
from tamago.compiler.approximate.method import Inputs, Method
from tamago.compiler.approximate.places import find_places
from tamago.compiler.approximate.preparation import Preparation, prepared
from tamago.compiler.approximate.structure import Observed
from tamago.compiler.approximate.write import Chosen, put
from tamago.compiler.facts import Array
from tamago.compiler.rule import Skip
from tamago.rewrites import all_methods, all_preparations, all_structures, chosen_by_name
from tamago.rewrites.quantization.dynamic_int8 import dynamic_int8
from tamago.rewrites.quantization.smoothed_normalisations import smoothed_normalisations
from tamago.rewrites.quantization.static_int8 import static_int8
from tests.cpu.test_scaled_inputs import NORMS, OUTPUTS, ROWS, TARGET, WEIGHT, WIDTH, distance, normal
from tests.cpu.test_scaled_inputs import model_of as scaled_model

TWO = "y = MatMul (n, w)  z = Gemm <transB = 1, alpha = 0.5> (n, v, b)"


def model_of(body: str, results: str = "y z", loud: float = 40.0) -> ir.Model:
    """Of weights w and u [in, out] and v [out, in], a bias b, a scale g, loud in some features, and a shift h."""
    size = np.where(np.arange(WIDTH) % 41 == 3, np.float32(loud), np.float32(1))
    scale = np.multiply(np.add(1, np.multiply(np.float32(0.02), normal(WIDTH, seed=5))), size)
    weights = {"w": WEIGHT, "v": normal(OUTPUTS, WIDTH, seed=3), "u": np.zeros_like(WEIGHT)}
    return scaled_model(body, results, g=scale, **weights)


def observe(model: ir.Model, samples: int = 4) -> Observed:
    feeds = [Sample({"x": normal(ROWS, WIDTH, seed=10 + i)}, None) for i in range(samples)]
    return Observed(model, feeds, LossModel("kl", None, lambda outputs: outputs[0]))


def run(model: ir.Model, seed: int = 50) -> list[Array]:
    return [np.asarray(found) for found in TARGET.lower(model.clone())({"x": normal(ROWS, WIDTH, seed=seed)})]


def rounded(model: ir.Model, method: Method) -> ir.Model:
    """Every place takes the method's form."""
    places = find_places(model.graph)
    names = [place.x.name or "" for place in places]
    seen = list(observe(model).values(names))
    forms = [method.forms(p, Inputs(tuple(v[n] for v in seen)))[0] for p, n in zip(places, names, strict=True)]
    return put(model, places, {p.y.name or "": Chosen(method.name, f) for p, f in zip(places, forms, strict=True)})


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("norm", NORMS)
def test_it_is_exact_and_adds_no_operator(norm: str, samples: int) -> None:
    model = model_of(f"{NORMS[norm]}  {TWO}")
    result = smoothed_normalisations.function(observe(model, samples))

    assert [n.op_type for n in result.graph] == [n.op_type for n in model.graph]
    assert {"g", "w", "v"} & set(result.graph.initializers) == set()
    assert {"g", "w", "v"} <= set(model.graph.initializers)
    for found, wanted in zip(run(result), run(model), strict=True):
        assert distance(found, wanted) < 1e-6


@pytest.mark.parametrize("method", [dynamic_int8, static_int8], ids=lambda m: m.name)
@pytest.mark.parametrize("norm", NORMS)
def test_what_rounds_after_it_loses_less_than_half(norm: str, method: Method) -> None:
    model = model_of(f"{NORMS[norm]}  {TWO}")
    result = rounded(smoothed_normalisations.function(observe(model)), method)
    plain = rounded(model, method)

    assert Counter(n.op_type for n in result.graph) == Counter(n.op_type for n in plain.graph)
    for found, other, wanted in zip(run(result), run(plain), run(model), strict=True):
        assert distance(found, wanted) < 0.4 * distance(other, wanted)


@pytest.mark.parametrize(
    ("body", "results", "reason"),
    [
        (f"n = RMSNormalization (x, g)  {TWO}", "y z n", "products alone"),
        ("n = RMSNormalization (x, g)  y = MatMul (n, w)  m = Neg (n)  z = MatMul (m, w)", "y z", "products alone"),
        ("n = RMSNormalization (x, g)  y = MatMul (n, w)  z = MatMul (n, w)", "y z", "products alone"),
        (f"c = Relu (x)  n = RMSNormalization (x, c)  {TWO}", "y z", "products alone"),
        (f"n = Relu (x)  {TWO}", "y z", "products alone"),
    ],
    ids=["an output", "another reader", "a weight read twice", "a computed scale", "no normalisation"],
)
def test_scales_that_others_would_see_are_not_used(body: str, results: str, reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        smoothed_normalisations.function(observe(model_of(body, results)))


def test_features_that_are_alike_are_left_alone() -> None:
    with pytest.raises(Skip, match="so much larger"):
        smoothed_normalisations.function(observe(model_of(f"{NORMS['RMSNormalization']}  {TWO}", loud=1.0)))


def test_a_program_that_came_out_otherwise_is_not_used() -> None:
    model = model_of(f"{NORMS['RMSNormalization']}  {TWO}")

    def wrong(observed: Observed) -> ir.Model:
        found = smoothed_normalisations.function(observed)
        value = found.graph.initializers["b"]
        value.const_value = ir.tensor(normal(OUTPUTS, seed=9), name="b")
        return found

    def refuses(_: Observed) -> ir.Model:
        raise Skip("nothing here")

    broken = Preparation("wrong", "quantization", "nobody", "…", wrong)
    other = Preparation("other", "quantization", "nobody", "…", refuses)
    result = prepared([broken, other], model, TARGET, observe)

    assert result.model is model
    assert [name for name, _ in result.refused] == ["wrong", "other"]
    assert "differs by" in result.refused[0][1]
    assert result.refused[1][1] == "nothing here"
    right = prepared([smoothed_normalisations], model, TARGET, observe)
    assert right.model is not model
    assert (right.done, right.refused) == (["smoothed_normalisations"], [])


def test_a_normalisation_that_cannot_be_helped_leaves_the_others() -> None:
    body = "n = RMSNormalization (x, g)  y = MatMul (n, w)  m = RMSNormalization (x, h)  z = MatMul (m, u)"
    model = model_of(body)
    result = smoothed_normalisations.function(observe(model))

    assert "w" not in result.graph.initializers
    assert {"h", "u"} <= set(result.graph.initializers)
    for found, wanted in zip(run(result), run(model), strict=True):
        assert float(np.max(np.abs(np.subtract(found, wanted, dtype=np.float64)))) < 1e-4


def test_without_values_there_is_a_reason() -> None:
    model = model_of(f"{NORMS['RMSNormalization']}  {TWO}")
    nothing = Observed(
        model, [Sample({"x": normal(0, WIDTH)}, None)], LossModel("kl", None, lambda outputs: outputs[0])
    )

    with pytest.raises(Skip, match="no values"):
        smoothed_normalisations.function(nothing)


def test_none_is_begun_without_time_and_a_broken_one_is_left_out() -> None:
    model = model_of(f"{NORMS['RMSNormalization']}  {TWO}")

    def breaks(_: Observed) -> ir.Model:
        raise ZeroDivisionError

    late = prepared([smoothed_normalisations], model, TARGET, observe, until=0.0)
    broken = prepared([Preparation("p", "quantization", "nobody", "…", breaks)], model, TARGET, observe)

    assert late.model is broken.model is model
    assert late.refused == [("smoothed_normalisations", "no time was left for it")]
    assert "ZeroDivisionError" in broken.refused[0][1]


def test_names_ask_for_it() -> None:
    assert chosen_by_name([]) == ((), (), (), ())
    assert smoothed_normalisations in all_preparations()
    assert chosen_by_name(["dynamic_int8"]) == ((dynamic_int8,), (), (), ())
    assert chosen_by_name(["dynamic_int8", "smoothed_normalisations"]) == (
        (dynamic_int8,),
        (smoothed_normalisations,),
        (),
        (),
    )
    everything = (all_methods(), all_preparations(), all_structures(), ())
    assert chosen_by_name("smoothed_normalisations") == chosen_by_name(None) == everything
