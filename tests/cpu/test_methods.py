"""Every approximate method: close to the exact product, in the model under the old name, and a reason where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.forms import exact_form
from tamago.compiler.approximate.method import Form, Inputs, Kind, Method, method
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.inference import infer
from tamago.compiler.rule import Skip
from tamago.rewrites import all_methods
from tests.node_cases import floats

Array = np.ndarray[Any, Any]

TARGET = OnnxRuntime(threads=1)
METHODS = {m.name: m for m in all_methods()}
ROWS = 6
RANK = 8  # of a weight, nearly: what a low-rank method must find
LOW_RANK = ("welore", "whitened_svd", "atomic_feature_mimicking", "channel_factorisation", "spatial_factorisation")
SCALING = ("awq", "smoothquant")  # for inputs some of which are much larger than others
CLOSE = {"4 bit": 0.16, "": 0.03}  # ‖error‖ / ‖product‖: 15 steps over ±2.5 σ, or 255 of them


@dataclass(frozen=True)
class Case:
    """A model with one place: its input, what it computes exactly, and what calibration saw."""

    model: ir.Model
    x: Array
    wanted: Array
    inputs: Inputs
    bias: Array | None = None
    loud: bool = False

    @property
    def place(self) -> Place:
        """The only one."""
        (place,) = find_places(self.model.graph)
        return place

    def forms(self, method: Method) -> list[Form]:
        """What the method offers here."""
        return method.forms(self.place, self.inputs)


def to_model(nodes: list[onnx.NodeProto], x: Array, weights: dict[str, Array], outputs: tuple[str, ...]) -> ir.Model:
    """A model of float (or int64) input `x` with a free first size."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [helper.make_tensor_value_info("x", kind, ["N", *x.shape[1:]])]
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    initializers = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, results, initializers)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def weight_of(width: int, outputs: int) -> Array:
    """Nearly of low rank, its elements about normal."""
    low = floats(width, RANK, seed=1) @ floats(RANK, outputs, seed=2) / np.float32(RANK**0.5)
    return low + np.float32(0.005) * floats(width, outputs, seed=3)


def kernels(outputs: int, channels: int) -> Array:
    """Nearly a sum of two separable kernels, and so of rank 6 by output channels."""
    separable = np.einsum("riy,orx->oiyx", floats(2, channels, 3, seed=1), floats(outputs, 2, 3, seed=2))
    return np.asarray(separable, np.float32) + np.float32(0.005) * floats(outputs, channels, 3, 3, seed=3)


def linear(
    op: str,
    shape: tuple[int, ...],
    outputs: int,
    weight: Array | None = None,
    x: Array | None = None,
    *,
    loud: bool = False,
) -> Case:
    """x·W + b, written in one of the ways that a model may have it; some inputs much larger than others where loud."""
    width = shape[-1]
    w = weight_of(width, outputs) if weight is None else weight
    size = np.where(loud & (np.arange(width) % 23 == 5), np.float32(20), np.float32(1))
    b, x = floats(outputs, seed=4), size * (floats(*shape, seed=5) if x is None else x)
    match op:
        case "MatMul":
            nodes, weights, bias = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], {"w": w}, None
            wanted = x @ w
        case "MatMul+Add":
            nodes = [
                helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
                helper.make_node("Add", ["b", "p"], ["y"], "sum"),
            ]
            weights, bias, wanted = {"w": w, "b": b}, b, x @ w + b
        case "Gemm":
            nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "product", transB=1, alpha=0.5, beta=2.0)]
            weights, bias = {"w": np.ascontiguousarray(w.T), "b": b}, 2 * b
            wanted = 0.5 * (x @ w) + 2 * b
        case _:
            nodes = [
                helper.make_node(
                    "FusedMatMul", ["x", "w"], ["y"], "product", domain="com.microsoft", transB=1, alpha=-3.0
                )
            ]
            weights, bias, wanted = {"w": np.ascontiguousarray(w.T)}, None, -3 * (x @ w)
    calibration = (x, size * floats(*shape, seed=6), size * floats(64, *shape[1:], seed=7))
    return Case(to_model(nodes, x, weights, ("y",)), x, wanted, Inputs(calibration), bias, loud)


def convolution(*, group: int = 1, after: str | None = None) -> Case:
    """A padded convolution, and what may follow it."""
    x, w, b = floats(2, 8, 7, 9, seed=5), kernels(24, 8 // group), floats(24, seed=4)
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c" if after else "y"], "product", pads=[1, 1, 1, 1], group=group)
    nodes = [conv, *([helper.make_node(after, ["c"], ["y"], "after")] if after else [])]
    given = to_model(nodes, x, {"w": w, "b": b}, ("y",))
    arrays = (x, floats(4, 8, 7, 9, seed=6))
    exact = TARGET.lower(given)
    outputs = tuple(exact({"x": a})[0] for a in arrays)
    return Case(given, x, outputs[0], Inputs(arrays, outputs), b)


def embedding(shape: tuple[int, ...], width: int = 64) -> Case:
    """Rows of a table, some of them counted from its end."""
    table = weight_of(50, width) * np.float32(4) ** floats(50, 1, seed=4)
    ids = np.random.default_rng(0).integers(-50, 50, shape)
    node = helper.make_node("Gather", ["w", "x"], ["y"], "rows")
    return Case(to_model([node], ids, {"w": table}, ("y",)), ids, table[ids], Inputs((ids,)))


LINEAR: dict[str, tuple[str, tuple[int, ...], int]] = {
    "product of rank 2": ("MatMul", (ROWS, 128), 96),
    "product of rank 3": ("MatMul", (2, 3, 128), 96),
    "product of rank 4": ("MatMul", (2, 1, 3, 128), 96),
    "bias, odd widths": ("MatMul+Add", (ROWS, 65), 47),
    "bias, odd widths, rank 3": ("MatMul+Add", (2, 3, 65), 47),
    "wider than a block by one": ("MatMul+Add", (ROWS, 129), 33),
    "Gemm with factors": ("Gemm", (ROWS, 96), 65),
    "FusedMatMul with a factor": ("FusedMatMul", (2, 3, 96), 65),
    "one row": ("MatMul+Add", (1, 128), 96),
}


def cases(kind: Kind) -> dict[str, Case]:
    """Places of a kind."""
    match kind:
        case "linear":
            plain = {name: linear(*words) for name, words in LINEAR.items()}
            return plain | {f"loud, {name}": linear(*words, loud=True) for name, words in LINEAR.items()}
        case "convolution":
            return {
                "plain": convolution(),
                "in groups": convolution(group=2),
                "with Relu": convolution(after="Relu"),
            }
        case _:
            return {"ids of rank 1": embedding((5,)), "ids of rank 2": embedding((2, 7))}


FACTORISATIONS = ("channel_factorisation", "spatial_factorisation")
PAIRS = ("cross_layer_equalisation",)  # of a layer and the one before: `test_cross_layer_equalisation.py` has such


def applies(method: Method, case: Case) -> bool:
    """Whether the method is for this place of its kind."""
    if method.name in PAIRS:
        return False
    if case.place.kind == "linear" and case.loud != (method.name in SCALING):
        return False
    if method.name == "atomic_feature_mimicking" and case.place.kind == "linear":
        return case.bias is not None
    return method.name not in FACTORISATIONS or case.place.attributes["group"] == 1


CASES = [
    pytest.param(m, case, id=f"{m.name}-{name}")
    for kind in ("linear", "convolution", "embedding")
    for name, case in cases(kind).items()
    for m in METHODS.values()
    if kind in m.kinds and applies(m, case)
]


def run(form: Form, x: Array) -> Array:
    """The form alone."""
    (found,) = TARGET.lower(alone(form.term, ir.DataType.from_numpy(x.dtype), x.ndim))({"x": x})
    return found


def distance(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(np.subtract(found, wanted)) / np.linalg.norm(wanted))


def tolerance(form: Form) -> float:
    if "column" in form.setting:  # rows of very different sizes share it
        return 0.1
    return next(value for bits, value in CLOSE.items() if bits in form.setting)


def kept_rank(form: Form) -> int | None:
    """The rank of a low-rank form."""
    words = form.setting.replace(",", "").split()
    return int(words[1]) if words[0] == "rank" else None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_says_what_it_does_and_where_it_is_from(method: Method) -> None:
    assert method.statement
    assert method.paper
    assert method.kinds
    assert method.family == ("low_rank" if method.name in LOW_RANK else "quantization")


@pytest.mark.parametrize(("method", "case"), CASES)
def test_each_form_is_close_to_the_exact_product(method: Method, case: Case) -> None:
    forms = case.forms(method)

    assert forms
    assert len({form.setting for form in forms}) == len(forms)
    for form in forms:
        found = run(form, case.x)
        assert found.shape == case.wanted.shape
        assert found.dtype == np.float32
        rank = kept_rank(form)
        if rank is None or rank >= RANK:
            assert distance(found, case.wanted) < tolerance(form), form.setting
        assert not np.array_equal(found, case.wanted), f"{form.setting} is exact: it tests nothing"


@pytest.mark.parametrize(("method", "case"), CASES)
def test_put_writes_a_form_under_the_old_name(method: Method, case: Case) -> None:
    for form in case.forms(method):
        result = put(case.model, find_places(case.model.graph), {"y": Chosen(method.name, form)})

        assert [v.name for v in result.graph.outputs] == ["y"]
        assert [v.name for v in result.graph.inputs] == ["x"]
        assert "w" not in result.graph.initializers
        names = [v.name for node in result.graph for v in node.outputs]
        assert len(set(names)) == len(names)
        np.testing.assert_allclose(TARGET.lower(result)({"x": case.x})[0], run(form, case.x), rtol=1e-4, atol=1e-4)
        assert "w" in case.model.graph.initializers


@pytest.mark.parametrize(("method", "case"), CASES)
def test_a_forms_bytes_are_those_it_adds_to_the_file(method: Method, case: Case) -> None:
    for form in case.forms(method):
        result = put(case.model, find_places(case.model.graph), {"y": Chosen(method.name, form)})

        held = sum(v.const_value.nbytes for v in result.graph.initializers.values() if v.const_value is not None)
        assert abs(held - form.stored) <= 0.1 * form.stored + 64  # scalars may be written more than once


@pytest.mark.parametrize("kind", ["linear", "convolution", "embedding"])
def test_the_exact_form_is_exact(kind: Kind) -> None:
    for case in cases(kind).values():
        np.testing.assert_allclose(run(exact_form(case.place), case.x), case.wanted, rtol=1e-4, atol=1e-4)


LINEAR_METHODS = [pytest.param(m, id=m.name) for m in METHODS.values() if "linear" in m.kinds]
UNSHIFTED = [p for p in LINEAR_METHODS if p.id != "atomic_feature_mimicking"]  # its bias holds the outputs' mean


@pytest.mark.parametrize("method", LINEAR_METHODS)
def test_a_column_of_zeros_gives_its_bias(method: Method) -> None:
    weight = weight_of(96, 40)
    weight[:, [0, 7, 39]] = 0
    case = linear("MatMul+Add", (ROWS, 96), 40, weight, loud=method.name in SCALING)
    assert case.bias is not None

    for form in case.forms(method):
        found = run(form, case.x)
        np.testing.assert_allclose(found[:, [0, 7, 39]], np.tile(case.bias[[0, 7, 39]], (ROWS, 1)), atol=1e-3)


@pytest.mark.parametrize("method", UNSHIFTED)
def test_a_row_of_zeros_gives_the_bias(method: Method) -> None:
    x = floats(2, 3, 96, seed=5)
    x[1, 2] = 0
    case = linear("MatMul+Add", (2, 3, 96), 40, x=x, loud=method.name in SCALING)
    assert case.bias is not None

    for form in case.forms(method):
        found = run(form, x)
        np.testing.assert_allclose(found[1, 2], case.bias, atol=1e-4)
        assert np.all(np.isfinite(found))


@pytest.mark.parametrize("method", UNSHIFTED)
def test_inputs_of_zeros_give_the_bias_everywhere(method: Method) -> None:
    case = linear("MatMul+Add", (ROWS, 96), 40, loud=method.name in SCALING)
    assert case.bias is not None

    for form in case.forms(method):
        found = run(form, np.zeros_like(case.x))
        np.testing.assert_allclose(found, np.tile(case.bias, (ROWS, 1)), atol=1e-4)


def test_an_outlier_costs_its_own_row_only_where_rows_have_scales() -> None:
    x = floats(ROWS, 128, seed=5)
    x[0] *= 1000
    case = linear("MatMul", (ROWS, 128), 96, x=x)

    def others(name: str) -> float:
        (form,) = case.forms(METHODS[name])
        return distance(run(form, x)[1:], case.wanted[1:])

    assert others("per_token_int8") < 0.03 < 0.5 < others("dynamic_int8")


def test_a_static_range_saturates() -> None:
    case = linear("MatMul", (ROWS, 128), 96)
    (form,) = case.forms(METHODS["static_int8"])

    assert distance(run(form, 10 * case.x), 10 * case.wanted) > 0.3


def test_gptq_suits_the_inputs_it_saw_better_than_rounding_does() -> None:
    x = floats(256, 16, seed=8) @ floats(16, 128, seed=9) + np.float32(0.1) * floats(256, 128, seed=10)
    case = linear("MatMul", (256, 128), 96, weight=floats(128, 96, seed=11), x=x)
    seen = Inputs((x,))

    def error(name: str, setting: str) -> float:
        (form,) = [f for f in METHODS[name].forms(case.place, seen) if f.setting == setting]
        return distance(run(form, x), case.wanted)

    for setting in ("4 bit, blocks of 32", "4 bit, blocks of 128"):
        assert error("gptq", setting) < 0.8 * error("block_weights", setting)


def test_a_rank_the_weight_does_not_have_shows() -> None:
    case = linear("MatMul", (ROWS, 128), 96, weight=floats(128, 96, seed=11))

    for form in case.forms(METHODS["whitened_svd"]):
        assert distance(run(form, case.x), case.wanted) > 0.2


# --- where a method offers nothing ----------------------------------------------------------------------------------


def narrow() -> Case:
    return linear("MatMul", (ROWS, 24), 96)


def unused() -> Case:
    case = linear("MatMul", (ROWS, 128), 96)
    zeros = tuple(np.zeros_like(a) for a in case.inputs.arrays)
    return Case(case.model, case.x, case.wanted, Inputs(zeros))


def alike() -> Case:
    """Inputs all of one size, and enough of them to tell."""
    return linear("MatMul", (256, 128), 96)


def unused_convolution() -> Case:
    case = convolution()
    zeros = tuple(np.zeros_like(a) for a in case.inputs.arrays)
    return Case(case.model, case.x, case.wanted, Inputs(zeros, case.inputs.outputs))


def flat() -> Case:
    """A weight whose singular values are all the same."""
    return linear("MatMul", (ROWS, 64), 64, weight=2 * np.eye(64, dtype=np.float32))


def thin() -> Case:
    return linear("MatMul", (ROWS, 300), 2, weight=floats(300, 2))


def in_groups() -> Case:
    return convolution(group=2)


def odd_rows() -> Case:
    return embedding((3,), 33)


REFUSED = {
    "embedding_int4": (odd_rows, "whole number of blocks"),
    "static_int8": (unused, "nothing but zeros"),
    "static_int8_convolution": (unused_convolution, "nothing but zeros"),
    "cross_layer_equalisation": (convolution, "no convolution is before it"),
    "block_weights": (narrow, "shorter than a block"),
    "gptq": (unused, "nothing but zeros"),
    "awq": (alike, "block_weights does as well"),
    "smoothquant": (alike, "dynamic_int8 does as well"),
    "hqq": (narrow, "shorter than a block"),
    "whitened_svd": (thin, "too few"),
    "welore": (flat, "no heavy tail"),
    "atomic_feature_mimicking": (unused, "no bias"),
    "channel_factorisation": (in_groups, "2 groups"),
    "spatial_factorisation": (in_groups, "2 groups"),
}
ALWAYS = {
    "dynamic_int8",
    "per_token_int8",
    "embedding_int8",
    "stored_weights",
}  # nothing in a place of their kinds can stop them


def test_every_method_has_a_place_it_refuses_or_needs_none() -> None:
    assert set(METHODS) <= set(REFUSED) | ALWAYS


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_that_does_not_apply_says_why(name: str) -> None:
    make, reason = REFUSED[name]

    with pytest.raises(Skip, match=reason):
        make().forms(METHODS[name])


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_columns_narrower_than_a_block_are_refused(name: str) -> None:
    with pytest.raises(Skip, match="shorter than a block"):
        narrow().forms(METHODS[name])


def test_a_method_must_state_something() -> None:
    def silent(place: Place, inputs: Inputs) -> Any:
        yield from ()

    with pytest.raises(TypeError, match="states nothing"):
        method(kinds=("linear",), paper="none")(silent)


# --- places ---------------------------------------------------------------------------------------------------------


def several(*, read_inside: bool) -> ir.Model:
    """Embedding, convolution-free: three products in a row, one of them an output that is read on."""
    weights = {
        "table": floats(40, 64, seed=1),
        "w1": weight_of(64, 48),
        "b1": floats(48, seed=2),
        "w2": weight_of(48, 48),
        "w3": np.ascontiguousarray(weight_of(48, 33).T),
        "b3": floats(33, seed=3),
    }
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"], "rows"),
        helper.make_node("MatMul", ["rows", "w1"], ["p1"], "first"),
        helper.make_node("Add", ["p1", "b1"], ["h1"], "first_bias"),
        helper.make_node("MatMul", ["h1", "w2"], ["h2"], "second"),
        helper.make_node("Gemm", ["h2", "w3", "b3"], ["y"], "third", transB=1),
    ]
    ids = np.zeros(3, np.int64)
    model = to_model(nodes, ids, weights, ("y", "h2") if read_inside else ("y",))
    infer(model)
    return model


@pytest.mark.parametrize("read_inside", [False, True])
def test_neighbouring_places_take_forms_together(read_inside: bool) -> None:
    model = several(read_inside=read_inside)
    places = find_places(model.graph)
    assert [p.y.name for p in places] == ["rows", "h1", "h2", "y"]
    ids = np.arange(7)
    wanted = TARGET.lower(model)({"x": ids})
    choice: dict[str, Chosen] = {}
    for place in places:
        name = "embedding_int8" if place.kind == "embedding" else "dynamic_int8"
        choice[place.y.name or ""] = Chosen(name, METHODS[name].forms(place, Inputs(()))[0])

    result = put(model, places, choice)

    assert [v.name for v in result.graph.outputs] == [v.name for v in model.graph.outputs]
    assert {n.op_type for n in result.graph}.isdisjoint({"MatMul", "Gemm"})
    for found, exact in zip(TARGET.lower(result)({"x": ids}), wanted, strict=True):
        assert 0 < distance(found, exact) < 0.05


def test_no_choice_changes_nothing() -> None:
    model = several(read_inside=True)

    result = put(model, find_places(model.graph), {})

    assert ir.to_proto(result).SerializeToString() == ir.to_proto(model).SerializeToString()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = MatMul (w, x)", "the weight comes first"),
        ("y = Gemm <transA = 1> (x, w)", "the input is transposed"),
        ("y = MatMul (x, x)", "no weight"),
        ("y = MatMul (x, small)", "a weight too small to gain anything"),
        ("y = Gather <axis = 1> (w, ids)", "columns of a table"),
    ],
)
def test_other_products_are_no_places(text: str, reason: str) -> None:
    numbers = ", ".join("0.5" for _ in range(256))
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 23]>
        g (float[16, 16] x, int64[3] ids) => (float[N, M] y)
        <float[16, 16] w = {{{numbers}}}, float[16, 2] small = {{{", ".join("1" for _ in range(32))}}}> {{ {text} }}"""
    )

    assert find_places(model.graph) == [], reason


def test_a_bias_that_is_read_twice_or_too_wide_stays_outside() -> None:
    numbers = ", ".join("0.5" for _ in range(256))
    head = '<ir_version: 10, opset_import: ["" : 23]> g (float[16, 16] x) => (float[16, 16] y, float[16, 16] z)'
    weights = f"<float[16, 16] w = {{{numbers}}}, float[16, 16] b = {{{numbers}}}>"
    wide = ir.from_onnx_text(f"{head} {weights} {{ p = MatMul (x, w) y = Add (p, b) z = Relu (y) }}")
    twice = ir.from_onnx_text(f"{head} {weights} {{ p = MatMul (x, w) y = Add (p, b) z = Relu (p) }}")

    for model in (wide, twice):
        (place,) = find_places(model.graph)
        assert place.y.name == "p"
        assert place.bias is None
