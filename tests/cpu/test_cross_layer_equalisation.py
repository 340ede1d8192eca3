"""Channels of one range: what a reader divides by, the layer before takes in, through what is homogeneous."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.fold_into_layers import fold_into_layers
from tamago.compiler.approximate.method import Form, Inputs, Method
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, put
from tamago.compiler.facts import Array
from tamago.compiler.files import from_proto
from tamago.compiler.fold import remove_unused
from tamago.compiler.inference import infer
from tamago.compiler.ir import unique_names
from tamago.compiler.optimise import Names
from tamago.compiler.rule import Skip
from tamago.rewrites import chosen_by_name
from tamago.rewrites.quantization.awq import awq
from tamago.rewrites.quantization.cross_layer_equalisation import cross_layer_equalisation
from tamago.rewrites.quantization.static_int8_convolution import static_int8_convolution

TARGET = OnnxRuntime(threads=1)
CHANNELS = 32
CONV = "Conv <pads = [1,1,1,1]>"
SHAPE = f"float[N,{CHANNELS},8,8]"


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


SIZES = np.asarray(np.exp(np.linspace(-3, 3, CHANNELS)), np.float32)  # of channels: 0.05 to 20
CONSTANTS: dict[str, Array] = {
    # A network as equalisation likes it: what the first layer makes large, the second reads little of.
    "w1": np.multiply(normal(CHANNELS, CHANNELS, 3, 3, seed=1, scale=1 / 17), SIZES[:, None, None, None]),
    "b1": np.multiply(normal(CHANNELS, seed=2, scale=0.25), SIZES),
    "w2": np.divide(normal(CHANNELS, CHANNELS, 3, 3, seed=3, scale=1 / 17), SIZES[:, None, None]),
    "each": np.divide(normal(CHANNELS, 1, 3, 3, seed=4), SIZES[:, None, None, None]),
    "even": normal(CHANNELS, CHANNELS, 3, 3, seed=5, scale=1 / 17),
    "slope": np.full((CHANNELS, 1, 1), 0.25, np.float32),
    "c": np.reciprocal(SIZES).reshape(-1, 1, 1),
    "negative": np.negative(SIZES).reshape(-1, 1, 1),
    "rows": np.reciprocal(SIZES[:8]).reshape(-1, 1),
    "add": normal(CHANNELS, 1, 1, seed=6),
    "m1": normal(64, 64, seed=7, scale=1 / 8),
    "m2": normal(64, 64, seed=8, scale=1 / 8),
    "v": normal(64, seed=9),
    "k": np.abs(normal(64, seed=10)) + np.float32(0.1),
    "zero": np.asarray(0, np.float32),
    "six": np.asarray(6, np.float32),
}


def model_of(body: str, x: str = SHAPE, results: str = "y", y: str = SHAPE) -> ir.Model:
    outputs = ", ".join(f"{y} {name}" for name in results.split())
    text = f'<ir_version: 10, opset_import: ["" : 23]> net ({x} x) => ({outputs}) {{ {body} }}'
    proto = parser.parse_model(text)
    read = {name for node in proto.graph.node for name in node.input}
    for name in CONSTANTS.keys() & read:
        proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(CONSTANTS[name]), name))
    model = from_proto(proto)
    infer(model)
    return model


def folded(model: ir.Model) -> ir.Model:
    result = model.clone()
    fold_into_layers(result.graph, Names(unique_names(result.graph)))
    remove_unused(result.graph)
    return result


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, x: Array) -> Array:
    return np.asarray(TARGET.lower(model)({"x": x})[0])


def distance(a: Array, b: Array) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)) / np.linalg.norm(b.astype(np.float64)))


# --- where the factor goes ------------------------------------------------------------------------------------------

PASSES = {
    "nothing": "q = Mul (a, c)",
    "Relu": "r = Relu (a)  q = Mul (r, c)",
    "LeakyRelu": "r = LeakyRelu <alpha = 0.1> (a)  q = Mul (r, c)",
    "PRelu": "r = PRelu (a, slope)  q = Mul (r, c)",
    "MaxPool": "r = Relu (a)  p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (r)  q = Mul (p, c)",
    "AveragePool": "p = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (a)  q = Mul (p, c)",
    "a sum with a constant": "s = Add (a, add)  r = Relu (s)  q = Mul (r, c)",
}


@pytest.mark.parametrize("name", PASSES)
def test_a_convolution_takes_the_factor_in(name: str) -> None:
    model, x = model_of(f"a = {CONV} (x, w1, b1)  {PASSES[name]}  y = {CONV} (q, w2)"), normal(2, CHANNELS, 8, 8)

    result = folded(model)

    assert operators(result)["Mul"] == 0
    assert distance(run(result, x), run(model, x)) < 1e-6
    assert "w1" in model.graph.initializers, "the model itself is not changed"


STAYS = {
    "Clip": "r = Clip (a, zero, six)  q = Mul (r, c)",
    "Sigmoid": "r = Sigmoid (a)  q = Mul (r, c)",
    "a negative factor": "r = Relu (a)  q = Mul (r, negative)",
    "another reader": "r = Relu (a)  q = Mul (r, c)  z = Neg (r)",
    "a factor along another axis": "r = Relu (a)  q = Mul (r, rows)",
    "a sum with what is computed": "s = Add (a, x)  r = Relu (s)  q = Mul (r, c)",
}


@pytest.mark.parametrize("name", STAYS)
def test_the_factor_stays_where_it_would_change_something(name: str) -> None:
    body = f"a = {CONV} (x, w1, b1)  {STAYS[name]}  y = {CONV} (q, w2)"
    model = model_of(body, results="y z" if " z " in STAYS[name] else "y")

    result = folded(model)

    assert operators(result) == operators(model)
    assert {"w1", "b1"} <= set(result.graph.initializers)


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul (x, m1)  s = Add (a, v)  r = Relu (s)  q = Mul (r, k)  y = MatMul (q, m2)",
        "a = Gemm <alpha = 0.5, beta = 2.0> (x, m1, v)  r = Relu (a)  q = Mul (r, k)  y = MatMul (q, m2)",
        "a = Gemm <transB = 1> (x, m1, v)  q = Mul (a, k)  y = MatMul (q, m2)",
    ],
)
def test_a_product_takes_the_factor_in(body: str) -> None:
    model, x = model_of(body, "float[N,64]", y="float[N,64]"), normal(5, 64)

    result = folded(model)

    assert operators(result)["Mul"] == 0
    assert distance(run(result, x), run(model, x)) < 1e-6


def test_pooling_over_what_a_product_makes_mixes_its_features() -> None:
    pool = "p = MaxPool <kernel_shape = [3], pads = [1,1]> (a)"
    model = model_of(f"a = MatMul (x, m1)  {pool}  y = Mul (p, k)", "float[2,3,64]", y="float[2,3,64]")

    assert operators(folded(model)) == operators(model)


# --- as forms -------------------------------------------------------------------------------------------------------

TWO = f"a = {CONV} (x, w1, b1)  r = Relu (a)  y = {CONV} (r, w2)"


def seen(model: ir.Model, place: Place, count: int = 4) -> Inputs:
    whole = model.clone()
    whole.graph.outputs[:] = [v for n in whole.graph for v in n.outputs]
    names = [v.name or "" for v in whole.graph.outputs]
    program = TARGET.lower(whole)
    runs = [{"x": x} | dict(zip(names, program({"x": x}), strict=True)) for x in samples(count)]
    return Inputs(tuple(r[place.x.name or ""] for r in runs), tuple(r[place.y.name or ""] for r in runs))


def samples(count: int, seed: int = 20) -> list[Array]:
    return [normal(2, CHANNELS, 8, 8, seed=seed + i) for i in range(count)]


def form_of(found: Method, model: ir.Model, number: int) -> tuple[Place, Form]:
    place = find_places(model.graph)[number]
    (form,) = found.forms(place, seen(model, place))
    return place, form


def with_forms(model: ir.Model, *methods: Method) -> ir.Model:
    places, choice = find_places(model.graph), dict[str, Chosen]()
    for number, found in enumerate(methods):
        place, form = form_of(found, model, number)
        choice[place.y.name or ""] = Chosen(found.name, form)
    return put(model, places, choice)


def test_uneven_channels_lose_less_when_equalised() -> None:
    model, x = model_of(TWO), samples(1, seed=50)[0]
    wanted = run(model, x)
    plain = with_forms(model, static_int8_convolution, static_int8_convolution)

    result = with_forms(model, static_int8_convolution, cross_layer_equalisation)

    assert distance(run(result, x), wanted) < 0.3 * distance(run(plain, x), wanted)


def test_an_integer_layer_before_takes_the_factor_into_its_scales() -> None:
    result = with_forms(model_of(TWO), static_int8_convolution, cross_layer_equalisation)

    counts = operators(result)
    assert counts["Mul"] == 0
    assert counts["QuantizeLinear"] == 3  # x, the equalised channels, y: those before equalising are rounded no more
    assert counts["Conv"] == 2


def test_a_layer_before_in_floats_takes_the_factor_into_its_weights() -> None:
    model = model_of(TWO)
    place, form = form_of(cross_layer_equalisation, model, 1)

    result = put(model, find_places(model.graph), {place.y.name or "": Chosen("cross_layer_equalisation", form)})

    assert operators(result)["Mul"] == 0
    (first, _) = [n for n in result.graph if n.op_type == "Conv"]
    assert first.inputs[1] is not None
    weight = first.inputs[1].const_value
    assert weight is not None
    sizes = np.abs(weight.numpy()).max(axis=(1, 2, 3))
    assert sizes.max() / sizes.min() < 0.1 * SIZES.max() / SIZES.min()


def test_a_depthwise_convolution_is_equalised_by_channel() -> None:
    body = f"a = {CONV} (x, w1, b1)  r = Relu (a)  y = Conv <pads = [1,1,1,1], group = {CHANNELS}> (r, each)"
    model, x = model_of(body), samples(1, seed=50)[0]
    wanted = run(model, x)
    plain = with_forms(model, static_int8_convolution, static_int8_convolution)

    result = with_forms(model, static_int8_convolution, cross_layer_equalisation)

    assert operators(result)["Mul"] == 0
    assert distance(run(result, x), wanted) < 0.3 * distance(run(plain, x), wanted)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"a = {CONV} (x, w1, b1)  r = Clip (a, zero, six)  y = {CONV} (r, w2)", "Clip .* not homogeneous"),
        (f"a = {CONV} (x, w1, b1)  r = Sigmoid (a)  y = {CONV} (r, w2)", "Sigmoid is before it"),
        (f"a = {CONV} (x, w1)  r = Relu (a)  s = {CONV} (r, w2)  y = Add (s, r)", "read elsewhere"),
        (f"a = Relu (x)  y = {CONV} (a, w2)", "no convolution is before it"),
        (f"a = {CONV} (x, even)  r = Relu (a)  y = {CONV} (r, even)", "alike in range"),
    ],
)
def test_where_nothing_could_take_it_in_there_is_a_reason(body: str, reason: str) -> None:
    model = model_of(body)
    place = find_places(model.graph)[-1]
    with pytest.raises(Skip, match=reason):
        cross_layer_equalisation.forms(place, seen(model, place))


def test_a_4_bit_product_before_takes_the_factor_of_awq_in() -> None:
    """Its scales of blocks are in 8 bits: their unit takes the factor, and the bias does."""
    body = "a = MatMul (x, m1)  s = Add (a, v)  r = Relu (s)  y = MatMul (r, m2)"
    model = model_of(body, "float[N,64]", y="float[N,64]")
    x = np.multiply(normal(64, 64, seed=70), np.where(np.arange(64) % 21 == 3, np.float32(30), np.float32(1)))
    model.graph.initializers["m1"].const_value = ir.tensor(
        np.multiply(CONSTANTS["m1"], np.where(np.arange(64) % 21 == 5, 30, 1)).astype(np.float32), name="m1"
    )
    first, second = find_places(model.graph)
    whole = model.clone()
    whole.graph.outputs.append(next(n for n in whole.graph if n.op_type == "Relu").outputs[0])
    middle = np.asarray(TARGET.lower(whole)({"x": x})[1])
    forms = {
        first.y.name or "": Chosen("awq", awq.forms(first, Inputs((x, x[::-1])))[0]),
        second.y.name or "": Chosen("awq", awq.forms(second, Inputs((middle, middle[::-1])))[0]),
    }

    result = put(model, [first, second], forms)

    assert operators(result)["MatMulNBits"] == 2
    read = [n for n in result.graph if n.op_type == "MatMulNBits"][1].inputs[0]
    assert read is not None
    producer = read.producer()
    assert producer is not None
    assert producer.op_type == "Relu"
    assert distance(run(result, x), run(model, x)) < 0.15


def test_it_is_asked_for_by_name() -> None:
    assert chosen_by_name(["cross_layer_equalisation"]) == ((cross_layer_equalisation,), (), (), ())
