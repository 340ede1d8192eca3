"""AWQ and SmoothQuant: what scaling a place's inputs is worth, as the runtime computes it and where it goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.method import Form, Inputs, Method
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.facts import Array, Floats
from tamago.compiler.files import from_proto
from tamago.compiler.inference import infer
from tamago.compiler.rule import Expression, Skip, op
from tamago.rewrites import all_methods
from tamago.rewrites.quantization.awq import awq
from tamago.rewrites.quantization.block_weights import block_weights, decoded
from tamago.rewrites.quantization.dynamic_int8 import dynamic_int8
from tamago.rewrites.quantization.scaled_inputs import best_scales, divided, multiplied, sizes
from tamago.rewrites.quantization.smoothquant import rounded_to_256, smoothquant

TARGET = OnnxRuntime(threads=1)
WIDTH, OUTPUTS, ROWS = 128, 72, 64
PLACES = {  # x·W + b, in the ways that models have it: the body, the weight stored [out, in], its factor, the bias'
    "MatMul": ("y = MatMul (x, w)", False, 1.0, None),
    "MatMul and Add": ("p = MatMul (x, w)  y = Add (p, b)", False, 1.0, 1.0),
    "Gemm": ("y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b)", True, 0.5, 2.0),
    "FusedMatMul": ("y = com.microsoft.FusedMatMul <transB = 1, alpha = -3.0> (x, w)", True, -3.0, None),
}
NORMS = {
    "RMSNormalization": "n = RMSNormalization (x, g)",
    "LayerNormalization": "n = LayerNormalization (x, g, h)",
    "SimplifiedLayerNormalization": "n = SimplifiedLayerNormalization (x, g)",
    "SkipSimplifiedLayerNormalization": "n = com.microsoft.SkipSimplifiedLayerNormalization (x, x, g)",
    "SkipLayerNormalization": "n = com.microsoft.SkipLayerNormalization (x, x, g, h)",
}


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHT, BIAS = normal(WIDTH, OUTPUTS, seed=2), normal(OUTPUTS, seed=4)


def loud(rows: int = ROWS, seed: int = 1) -> Array:
    """Activations of which a few channels are always much larger, as language models have them."""
    size = np.where(np.arange(WIDTH) % 41 == 3, np.float32(40), np.float32(1))
    return np.multiply(normal(rows, WIDTH, seed=seed), size)


def model_of(body: str, results: str = "y", weight: Array | None = None, **given: Array) -> ir.Model:
    """A model of x, weights w and v, a bias b, and the scale g and shift h of a normalisation, or what is given."""
    outputs = ", ".join(f"float[N, {OUTPUTS if r != 'n' else WIDTH}] {r}" for r in results.split())
    opsets = '"" : 23, "com.microsoft" : 1'
    text = f"<ir_version: 10, opset_import: [{opsets}]> net (float[N, {WIDTH}] x) => ({outputs}) {{ {body} }}"
    proto = parser.parse_model(text)
    arrays = {
        "w": WEIGHT if weight is None else weight,
        "v": normal(WIDTH, OUTPUTS, seed=3),
        "b": BIAS,
        "g": np.abs(normal(WIDTH, seed=5)),
        "h": normal(WIDTH, seed=6),
    }
    read = {name for node in proto.graph.node for name in node.input}
    if "transB" in body:
        arrays["w"] = arrays["w"].T
    for name, stored in (arrays | given).items():
        if name not in read:
            continue
        proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(stored), name))
    model = from_proto(proto)
    infer(model)
    return model


def place_of(name: str = "MatMul", weight: Array | None = None) -> Place:
    (place,) = find_places(model_of(PLACES[name][0], weight=weight).graph)
    return place


def run(form: Form, x: Array) -> Array:
    return np.asarray(TARGET.lower(alone(form.term, ir.DataType.FLOAT, x.ndim))({"x": x})[0])


def distance(a: Array, b: Array) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)) / np.linalg.norm(b.astype(np.float64)))


def constants(term: Expression) -> list[Array]:
    return [child for child in term.inputs if isinstance(child, np.ndarray)]


def seen(rows: int = 256) -> Inputs:
    return Inputs(tuple(loud(rows, seed) for seed in range(10, 14)))


# --- the scaling itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.05, 0.5, 0.95])
def test_without_rounding_scales_change_nothing(strength: float) -> None:
    place, x = place_of(), loud()
    scale = sizes(Inputs((x,)).peak) ** strength
    assert scale.max() > 1.1 * scale.min()

    found = run(Form("scaled", op.MatMul(divided(scale), multiplied(place.weight, scale))), x)

    assert distance(found, np.matmul(x, place.weight)) < 1e-6


def test_sizes_are_about_one_and_one_where_nothing_was_seen() -> None:
    found = sizes(np.asarray([0.0, 4.0, 1.0, 0.0, 16.0]))

    np.testing.assert_allclose(found, [1, 1, 0.25, 1, 4])
    assert sizes(np.asarray([1e-30, 1.0])).min() > 1e-3  # bounded: 1/s would drown every other input


@pytest.mark.parametrize(("values", "reason"), [([0.0, 0.0], "nothing but zeros"), ([1.0, np.inf], "not finite")])
def test_sizes_need_something_to_tell(values: list[float], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        sizes(np.asarray(values))


def test_a_strength_is_judged_on_other_samples_than_its_scales_are_from() -> None:
    first, other = Inputs((normal(8, 4, seed=1),)), Inputs((normal(8, 4, seed=2),))
    both = Inputs((*first.arrays, *other.arrays))

    def scales(some: Inputs, strength: float) -> Floats:
        return sizes(some.peak) ** strength

    def error(some: Inputs, scale: Array) -> float:
        assert some.arrays == other.arrays
        return 0.0 if np.array_equal(scale, scales(first, 0.5)) else 1.0

    found = best_scales(both, both.halves, (0.25, 0.5, 0.75), scales, error)

    assert found is not None
    np.testing.assert_array_equal(found, scales(both, 0.5))
    assert best_scales(both, both.halves, (0.25, 0.75), scales, error) is None


def test_the_inputs_statistics_are_those_of_all_positions() -> None:
    arrays = (normal(2, 3, 5, seed=1), normal(4, 1, 5, seed=2))
    rows = np.concatenate([a.reshape(-1, 5) for a in arrays])
    inputs = Inputs(arrays)

    np.testing.assert_allclose(inputs.magnitude, np.abs(rows).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(inputs.peak, np.abs(rows).max(0))
    assert [len(half.arrays) for half in Inputs((*arrays, arrays[0])).halves] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([h.arrays[0] for h in Inputs(arrays[:1]).halves]), rows[:6])


# --- what it is worth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["4 bit, blocks of 32", "4 bit, blocks of 128"])
def test_awq_loses_less_than_rounding_where_channels_are_loud(setting: str) -> None:
    place, unseen = place_of(), loud(512, seed=20)

    def error(found: Method) -> float:
        (form,) = [f for f in found.forms(place, seen()) if f.setting == setting]
        return distance(run(form, unseen), np.matmul(unseen, place.weight))

    assert error(awq) < 0.7 * error(block_weights)


def test_smoothquant_loses_less_than_dynamic_int8_where_channels_are_loud() -> None:
    place, unseen = place_of(), loud(512, seed=20)
    quiet = unseen.copy()
    quiet[:, sizes(seen().peak) > 5] = 0

    def error(found: Method, x: Array) -> float:
        (form,) = found.forms(place, seen())
        together = np.concatenate([unseen, x])  # one scale for all of it
        return distance(run(form, together)[len(unseen) :], np.matmul(x, place.weight))

    assert error(smoothquant, unseen) < 0.5 * error(dynamic_int8, unseen)
    assert error(smoothquant, quiet) < 0.2 * error(dynamic_int8, quiet)


@pytest.mark.parametrize(("found", "other"), [(awq, "block_weights"), (smoothquant, "dynamic_int8")])
def test_flat_activations_are_left_to_the_plain_method(found: Method, other: str) -> None:
    flat = Inputs(tuple(normal(512, WIDTH, seed=seed) for seed in range(4)))
    with pytest.raises(Skip, match=f"{other} does as well"):
        found.forms(place_of(), flat)


def test_an_outlier_that_is_no_channels_own_is_left_to_the_plain_method() -> None:
    """What is large once, in one sample, will be large elsewhere next time."""
    arrays = [normal(256, WIDTH, seed=seed) for seed in range(4)]
    for sample, array in enumerate(arrays):
        array[7, 11 * sample + 2] = 60
    with pytest.raises(Skip, match="dynamic_int8 does as well"):
        smoothquant.forms(place_of(), Inputs(tuple(arrays)))


@pytest.mark.parametrize("found", [awq, smoothquant], ids=lambda m: m.name)
def test_without_calibration_data_there_is_a_reason(found: Method) -> None:
    with pytest.raises(Skip, match="saw nothing but zeros"):
        found.forms(place_of(), Inputs((np.zeros((4, WIDTH), np.float32),)))
    with pytest.raises(Skip, match="saw values that are not finite"):
        found.forms(place_of(), Inputs((loud(), np.full((4, WIDTH), np.inf, np.float32))))


def test_a_weight_of_zeros_is_the_weights_fault() -> None:
    with pytest.raises(Skip, match="the weight holds nothing but zeros"):
        smoothquant.forms(place_of(weight=np.zeros((WIDTH, OUTPUTS), np.float32)), seen())


def test_a_channel_that_calibration_did_not_see_is_still_multiplied() -> None:
    arrays = tuple(loud(256, seed) for seed in range(10, 14))
    for array in arrays:
        array[:, 64] = 0
    place = place_of()
    x = np.zeros((3, WIDTH), np.float32)
    x[:, 64] = [1, -2, 3]

    for form in awq.forms(place, Inputs(arrays)):
        assert distance(run(form, x), np.matmul(x, place.weight)) < 0.2, form.setting


# --- as the runtime computes it -------------------------------------------------------------------------------------


def nibbles(array: Array) -> Array:
    return np.stack([np.bitwise_and(array, 15), np.right_shift(array, 4)], -1).reshape(*array.shape[:-1], -1)


def four_bit_product(x: Array, term: Expression) -> Array:
    """A MatMulNBits at accuracy level 4: x in int8 too, a scale for each row and block."""
    _, packed, scale, zero, *_ = term.inputs
    block = term.attributes["block_size"]
    assert isinstance(packed, np.ndarray)
    assert isinstance(zero, np.ndarray)
    outputs, blocks, _ = packed.shape
    if isinstance(scale, Expression):  # in 8 bits, times one number for each row
        assert isinstance(scale.inputs[0], Expression)
        scale = np.multiply(constants(scale.inputs[0])[0], constants(scale)[0], dtype=np.float32)
    assert isinstance(scale, np.ndarray)
    zeros = nibbles(zero.reshape(outputs, -1))[:, :blocks]
    weight = decoded(nibbles(packed), scale.reshape(outputs, blocks), zeros, WIDTH)
    parts = x.reshape(len(x), -1, block)
    step = np.abs(parts).max(-1, keepdims=True) / np.float32(127)
    return np.matmul((np.round(parts / step) * step).reshape(x.shape), weight)


def emulated(form: Form, x: Array) -> Array:
    """The form in numpy, without its bias."""
    product = form.term.inputs[0]
    assert isinstance(product, Expression)
    assert product.op == "Mul"
    x = np.multiply(x, constants(product)[0])
    if form.term.op == "com.microsoft::MatMulNBits":
        return four_bit_product(x, form.term)
    codes, scale, *_ = constants(form.term)
    return np.matmul(rounded_to_256(x.astype(np.float32)), np.multiply(codes, scale))


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(("found", "count"), [(awq, 2), (smoothquant, 1)], ids=["awq", "smoothquant"])
def test_forms_run_as_they_are_meant(found: Method, count: int, name: str) -> None:
    _, _, factor, bias_factor = PLACES[name]
    place, x = place_of(name), loud(seed=30)
    bias = np.multiply(BIAS, 0 if bias_factor is None else bias_factor)
    forms = found.forms(place, seen())

    assert len({form.setting for form in forms}) == len(forms) == count
    for form in forms:
        wanted = np.add(emulated(form, x), bias)
        assert distance(run(form, x), wanted) < 1e-3
        assert distance(run(form, x.reshape(2, -1, WIDTH)), wanted.reshape(2, -1, OUTPUTS)) < 1e-3
        assert distance(wanted, np.multiply(factor, np.matmul(x, WEIGHT)) + bias) < 0.1


def test_the_methods_are_in_the_catalogue() -> None:
    page = (Path(__file__).parents[2] / "rewrites" / "README.md").read_text()

    assert {awq, smoothquant} <= set(all_methods())
    assert "| `awq` |" in page
    assert "| `smoothquant` |" in page


# --- where the factor goes ------------------------------------------------------------------------------------------


def with_awq(model: ir.Model, methods: tuple[Method, ...] = (awq,)) -> ir.Model:
    """Every place takes the first form of the method; the methods in turn."""
    places = find_places(model.graph)
    chosen = [methods[i % len(methods)] for i in range(len(places))]
    forms = [m.forms(place, seen())[0] for m, place in zip(chosen, places, strict=True)]
    choice = {p.y.name or "": Chosen(m.name, f) for p, m, f in zip(places, chosen, forms, strict=True)}
    return put(model, places, choice)


def operators(model: ir.Model) -> Counter[str]:
    """How often each is applied to what is computed; constants, as the scales of blocks are, do not count."""
    varying, counts = set(model.graph.inputs), Counter[str]()
    for node in model.graph:
        if varying & {v for v in node.inputs if v is not None}:
            counts[node.op_type] += 1
            varying |= set(node.outputs)
    return counts


@pytest.mark.parametrize("norm", NORMS)
def test_a_normalisation_takes_the_factor_of_its_only_reader_in(norm: str) -> None:
    model = model_of(f"{NORMS[norm]}  p = MatMul (n, w)  y = Add (p, b)")
    (place,) = find_places(model.graph)
    result, x = with_awq(model), loud(seed=40)
    (normalised,) = TARGET.lower(model_of(NORMS[norm], "n"))({"x": x})

    assert operators(result)[norm] == 1
    assert operators(result)["Mul"] == 0
    assert {"g", "h"} & set(result.graph.initializers) == set()
    wanted = run(awq.forms(place, seen())[0], normalised)
    assert distance(TARGET.lower(result)({"x": x})[0], wanted) < 0.01  # codes of x may round the other way
    assert "g" in model.graph.initializers


def test_two_readers_with_one_factor_share_it() -> None:
    body = f"{NORMS['LayerNormalization']}  y = MatMul (n, w)  z = MatMul (n, w)"
    result = with_awq(model_of(body, "y z"))

    assert operators(result)["Mul"] == 0
    assert operators(result)["MatMulNBits"] == 2


@pytest.mark.parametrize(
    ("body", "results", "products"),
    [
        ("n = RMSNormalization (x, g)  y = MatMul (n, w)", "y n", 1),
        ("n = RMSNormalization (x, g)  y = MatMul (n, w)  m = Neg (n)  z = MatMul (m, v)", "y z", 2),
        ("y = MatMul (x, w)", "y", 1),
        ("c = Relu (x)  n = RMSNormalization (x, c)  y = MatMul (n, w)", "y", 1),
    ],
    ids=["an output", "another reader", "no normalisation", "a computed scale"],
)
def test_the_factor_stays_where_others_would_see_it(body: str, results: str, products: int) -> None:
    model = model_of(body, results)
    result, x = with_awq(model), loud(seed=40)

    assert operators(result)["Mul"] == products
    for found, wanted in zip(TARGET.lower(result)({"x": x}), TARGET.lower(model)({"x": x}), strict=True):
        assert distance(found, wanted) < 0.2


def test_two_factors_stay() -> None:
    body = f"{NORMS['RMSNormalization']}  y = MatMul (n, w)  z = MatMul (n, v)"
    result = with_awq(model_of(body, "y z"), (awq, smoothquant))

    assert operators(result)["Mul"] == 2
    assert "g" in result.graph.initializers
