"""Integer convolutions in a row hand one another codes; what they cannot share stays as it was."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.forms import exact_form
from tamago.compiler.approximate.method import Inputs
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.facts import Array
from tamago.compiler.files import from_proto
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.rewrites.quantization.activation_range import least_squares_range
from tamago.rewrites.quantization.static_int8_convolution import static_int8_convolution

TARGET = OnnxRuntime(threads=1)
RESIDUAL = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[1,8,8,8] x) => (float[1,8,8,8] y) {
    a = Conv <pads = [1,1,1,1]> (x, w1)
    b = Relu (a)
    c = Conv <pads = [1,1,1,1]> (b, w2)
    d = Add (c, x)
    e = Relu (d)
    y = Conv <pads = [1,1,1,1]> (e, w3)
}
"""


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def residual() -> ir.Model:
    proto = parser.parse_model(RESIDUAL)
    for seed, name in enumerate(("w1", "w2", "w3")):
        weight = np.multiply(random(8, 8, 3, 3, seed=seed), np.float32(0.125))
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    model = from_proto(proto)
    infer(model)
    return model


def values(model: ir.Model, x: Array) -> dict[str, Array]:
    """Every value of the model by name."""
    whole = model.clone()
    whole.graph.outputs[:] = [v for n in whole.graph for v in n.outputs]
    names = [v.name or "" for v in whole.graph.outputs]
    return dict(zip(names, TARGET.lower(whole)({"x": x}), strict=True)) | {"x": x}


def quantised(model: ir.Model, x: Array, places: list[Place]) -> ir.Model:
    known = values(model, x)
    choice: dict[str, Chosen] = {}
    for place in places:
        inputs = Inputs((known[place.x.name or ""],), (known[place.y.name or ""],))
        form = static_int8_convolution.forms(place, inputs)[0]
        choice[place.y.name or ""] = Chosen("static_int8_convolution", form)
    return put(model, places, choice)


def test_neighbours_share_codes_and_the_sum_beside_them_reads_them() -> None:
    model, x = residual(), random(1, 8, 8, 8, seed=9)
    places = find_places(model.graph)

    result = quantised(model, x, places)

    counts = Counter(n.op_type for n in result.graph)
    # x, b, c and e are quantised once each, and the output; the sum reads what x and c are decoded to.
    assert counts["QuantizeLinear"] == 5
    add = next(n for n in result.graph if n.op_type == "Add")
    assert [v.producer().op_type for v in add.inputs if v is not None] == ["DequantizeLinear"] * 2  # type: ignore[union-attr]
    wanted, found = TARGET.lower(model)({"x": x})[0], TARGET.lower(result)({"x": x})[0]
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_convolution_that_stays_exact_reads_the_float_tensor() -> None:
    model, x = residual(), random(1, 8, 8, 8, seed=9)
    first, second, _ = find_places(model.graph)

    result = quantised(model, x, [first, second])

    exact = next(n for n in result.graph if n.op_type == "Conv" and n.outputs[0].name == "y")
    source = exact.inputs[0]
    assert source is not None
    assert source.producer().op_type == "Relu"  # type: ignore[union-attr]


def test_what_only_moves_elements_moves_codes() -> None:
    model = residual()
    x = random(1, 8, 8, 8, seed=9)
    add = next(n for n in model.graph if n.op_type == "Add")
    bounds = [new_constant(n, np.asarray([v], np.int64)) for n, v in (("from", 0), ("to", 8), ("axis", 2))]
    for value in bounds:
        model.graph.register_initializer(value)
    cut = ir.Node("", "Slice", [model.graph.inputs[0], *bounds], num_outputs=1, name="cut")
    cut.outputs[0].name = "cut"
    model.graph.insert_before(add, [cut])
    add.replace_input_with(1, cut.outputs[0])
    infer(model)

    result = quantised(model, x, find_places(model.graph))

    slice_node = next(n for n in result.graph if n.op_type == "Slice")
    source = slice_node.inputs[0]
    assert source is not None
    assert source.producer().op_type == "QuantizeLinear"  # type: ignore[union-attr]
    wanted, found = TARGET.lower(model)({"x": x})[0], TARGET.lower(result)({"x": x})[0]
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_the_bias_keeps_the_mean_of_what_a_convolution_makes() -> None:
    model, x = residual(), np.abs(random(1, 8, 8, 8, seed=9)) + 3
    place = find_places(model.graph)[2]
    exact = TARGET.lower(alone(exact_form(place).term, ir.DataType.FLOAT, 4))({"x": x})[0]
    form = static_int8_convolution.forms(place, Inputs((x,), (exact,)))[0]

    found = TARGET.lower(alone(form.term, ir.DataType.FLOAT, 4))({"x": x})[0]

    assert np.abs((found - exact).mean(axis=(0, 2, 3))).max() < 0.02 * np.abs(exact).mean()


def test_a_rare_large_value_is_cut_off_where_that_costs_less() -> None:
    values = np.abs(random(1 << 18, seed=3))
    values[0] = 3 * values.max()

    found = least_squares_range((values,))

    assert found is not None
    assert float(found[0]) * 255 < 0.95 * values.max()


@pytest.mark.parametrize("value", [0.0])
def test_nothing_but_zeros_has_no_range(value: float) -> None:
    assert least_squares_range((np.full((4, 4), value, np.float32),)) is None
