"""GPTQ, HQQ, the whitened SVD and WeLore: what each is for, and its forms as the runtime computes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.method import Form, Inputs, Method
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import alone
from tamago.compiler.rule import Expression, Skip
from tamago.rewrites import all_methods
from tamago.rewrites.low_rank.directions import output_directions
from tamago.rewrites.low_rank.factors import break_even
from tamago.rewrites.low_rank.welore import heavy_rank, welore
from tamago.rewrites.low_rank.whitened_svd import whitened_svd
from tamago.rewrites.quantization.block_weights import round_blocks
from tamago.rewrites.quantization.double_quantization import scales_in_8_bits
from tamago.rewrites.quantization.gptq import error_feedback, gptq, round_in_order
from tamago.rewrites.quantization.hqq import half_quadratic, hqq

Array = np.ndarray[Any, Any]


def weights(width: int, outputs: int, seed: int = 0) -> Array:
    return (0.05 * np.random.default_rng(seed).standard_normal((width, outputs))).astype(np.float32)


def decaying(width: int, outputs: int, power: float = 1.0) -> Array:
    """A weight with σₖ = k^−power."""
    u, _, v = np.linalg.svd(weights(width, outputs).astype(np.float64), full_matrices=False)
    return ((u * np.arange(1, len(v) + 1) ** -power) @ v).astype(np.float32)


def correlated(width: int, rows: int = 512, seed: int = 1) -> Array:
    """Inputs with a few strong directions, as activations have."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((width, width)) * np.arange(1, width + 1) ** -0.7
    return (generator.standard_normal((rows, width)) @ mixing.T / 4).astype(np.float32)


def linear(weight: Array, bias: Array | None = None) -> Place:
    """The place x·W + b of a model of nothing else."""
    x = ir.Value(name="x", shape=ir.Shape([None, weight.shape[0]]), type=ir.TensorType(ir.DataType.FLOAT))
    initializers = [
        ir.Value(name=n, const_value=ir.tensor(a)) for n, a in (("w", weight), ("b", bias)) if a is not None
    ]
    for value in initializers:
        assert value.const_value is not None
        value.shape, value.type = ir.Shape(value.const_value.shape.numpy()), ir.TensorType(ir.DataType.FLOAT)  # type: ignore[attr-defined]
    product = ir.node("MatMul", [x, initializers[0]])
    nodes = [product] if bias is None else [product, ir.node("Add", [product.outputs[0], initializers[1]])]
    graph = ir.Graph([x], nodes[-1].outputs, nodes=nodes, initializers=initializers, opset_imports={"": 20})
    (place,) = find_places(graph)
    return place


def run(form: Form, x: Array) -> Array:
    program = OnnxRuntime(threads=1).lower(alone(form.term, ir.DataType.FLOAT, x.ndim))
    return np.asarray(program({"x": x})[0])


def distance(a: Array, b: Array) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)) / np.linalg.norm(b.astype(np.float64)))


def decoded(codes: Array, scale: Array, zero: Array, width: int) -> Array:
    """W of blocks, [in, out]."""
    parts = (codes.astype(np.float64) - zero[..., None]) * scale[..., None]
    return parts.reshape(len(parts), -1)[:, :width].T


# --- numpy emulations of what the runtime computes ------------------------------------------------------------------


def nibbles(array: Array) -> Array:
    return np.stack([np.bitwise_and(array, 15), np.right_shift(array, 4)], -1).reshape(*array.shape[:-1], -1)


def unpacked(term: Expression) -> Array:
    """The weight inside a 4-bit MatMulNBits, [in, out]."""
    _, packed, _, zero, *_ = term.inputs
    scale = scales(term)
    assert isinstance(packed, np.ndarray)
    assert isinstance(zero, np.ndarray)
    outputs, blocks, _ = packed.shape
    zeros = nibbles(zero.reshape(outputs, -1))[:, :blocks]
    return decoded(nibbles(packed), scale.reshape(outputs, blocks), zeros, term.attributes["K"])


def scales(term: Expression) -> Array:
    """The scales of a MatMulNBits: in 8 bits, times one number for each row."""
    found = term.inputs[2]
    if isinstance(found, np.ndarray):
        return found
    assert isinstance(found, Expression)
    codes, unit = found.inputs
    assert isinstance(codes, Expression)
    assert isinstance(unit, np.ndarray)
    return np.multiply(constants(codes)[0], unit, dtype=np.float32)


def codes_by_block(x: Array, block: int) -> Array:
    """X as MatMulNBits reads it at accuracy level 4: int8 with a scale for each row and block."""
    rows, width = x.shape
    parts = np.pad(x, ((0, 0), (0, -width % block))).reshape(rows, -1, block)
    step = np.abs(parts).max(-1, keepdims=True) / np.float32(127)
    whole = np.round(parts / np.where(step > 0, step, 1))
    return (whole * step).reshape(rows, -1)[:, :width].astype(np.float64)


def dynamically(x: Array, codes: Array, scale: Array) -> Array:
    """DynamicQuantizeMatMul without a bias."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = np.float32((high - low) / 255)
    zero = np.clip(np.round(-low / step), 0, 255)
    whole = np.clip(np.round(x / step) + zero, 0, 255) - zero
    return (whole @ codes.astype(np.float64) * (step * scale)).astype(np.float32)


def emulated(form: Form, x: Array, bias: Array | None) -> Array:
    """The form in numpy."""
    term = form.term
    if term.op == "com.microsoft::MatMulNBits":
        product = codes_by_block(x, term.attributes["block_size"]) @ unpacked(term)
    elif term.op == "com.microsoft::DynamicQuantizeMatMul":
        inner = term.inputs[0]
        assert isinstance(inner, Expression)
        product = dynamically(dynamically(x, *constants(inner)[:2]), *constants(term)[:2])
    else:
        outer = term.inputs[0] if term.op == "Add" else term
        assert isinstance(outer, Expression)
        inner = outer.inputs[0]
        assert isinstance(inner, Expression)
        product = x.astype(np.float64) @ constants(inner)[0] @ constants(outer)[0]
    return product if bias is None else product + bias


def constants(term: Expression) -> list[Array]:
    return [child for child in term.inputs if isinstance(child, np.ndarray)]


# --- forms ----------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Method, Callable[[int, int], Array], int]] = {
    "gptq": (gptq, weights, 2),
    "hqq": (hqq, weights, 1),
    "whitened_svd": (whitened_svd, decaying, 6),
    "welore": (welore, lambda i, o: decaying(i, o, 0.3), 2),
}


@cache
def offered(name: str, width: int, outputs: int, biased: bool) -> tuple[list[Form], Array | None]:
    bias = np.linspace(-1, 1, outputs, dtype=np.float32) if biased else None
    found, make, _ = CASES[name]
    return found.forms(linear(make(width, outputs), bias), Inputs((correlated(width),))), bias


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("width", "outputs"), [(128, 96), (200, 72)])
@pytest.mark.parametrize("name", CASES)
def test_forms_run_as_they_are_meant(name: str, width: int, outputs: int, biased: bool) -> None:
    forms, bias = offered(name, width, outputs, biased)
    x = correlated(width, rows=24, seed=5)

    assert len(forms) == CASES[name][2]
    assert len({form.setting for form in forms}) == len(forms)
    for form in forms:
        wanted = emulated(form, x, bias)
        assert distance(run(form, x), wanted) < 1e-3, form.setting
        assert distance(run(form, x.reshape(2, 12, width)), wanted.reshape(2, 12, outputs)) < 1e-3, form.setting


def test_the_methods_are_registered() -> None:
    assert set(CASES) <= {m.name for m in all_methods()}
    assert {m.family for m in all_methods()} >= {"quantization", "low_rank"}


@pytest.mark.parametrize("found", [gptq, whitened_svd], ids=lambda m: m.name)
def test_without_calibration_data_there_is_a_reason(found: Method) -> None:
    place = linear(weights(64, 64))
    with pytest.raises(Skip, match="nothing but zeros"):
        found.forms(place, Inputs((np.zeros((4, 64), np.float32),)))
    with pytest.raises(Skip, match="not finite"):
        found.forms(place, Inputs((np.full((4, 64), np.inf, np.float32),)))


@pytest.mark.parametrize(("found", "width"), [(gptq, 24), (hqq, 48)], ids=["gptq", "hqq"])
def test_short_columns_are_refused(found: Method, width: int) -> None:
    with pytest.raises(Skip, match="shorter than a block"):
        found.forms(linear(weights(width, 64)), Inputs((correlated(width),)))


# --- 4 bit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("width", [256, 200])
def test_gptq_loses_less_of_the_output_than_rounding(width: int, block: int) -> None:
    weight, x = weights(width, 160), correlated(width, rows=2048)
    factor = error_feedback(Inputs((x[:1024],)).second_moment)
    unseen = x[1024:].astype(np.float64)

    def error(codes: Array, scale: Array, zero: Array) -> float:
        return distance(unseen @ decoded(codes, scale, zero, width), unseen @ weight)

    assert error(*round_in_order(weight, factor, block)) < 0.8 * error(*round_blocks(weight, 4, block))


def test_gptq_is_its_definition() -> None:
    """One output at a time with the inverse of H made smaller step by step, as Optimal Brain Surgeon has it."""
    weight, x = weights(64, 5), correlated(64)
    moment = Inputs((x,)).second_moment.astype(np.float64)
    codes, scale, zero = round_in_order(weight, error_feedback(moment), 32)

    inverse = np.linalg.inv(moment + 0.01 * np.trace(moment) / 64 * np.eye(64))
    rest = weight.astype(np.float64)
    for i in range(64):
        block = i // 32
        step, origin = scale[:, block].astype(np.float64), zero[:, block].astype(np.float64)
        code = np.clip(np.round(rest[i] / step) + origin, 0, 15)
        np.testing.assert_array_equal(codes[:, block, i % 32], code)
        error = (rest[i] - (code - origin) * step) / inverse[0, 0]
        rest[i:] -= np.outer(inverse[:, 0], error)
        inverse = inverse[1:, 1:] - np.outer(inverse[1:, 0], inverse[0, 1:]) / inverse[0, 0]


def test_gptq_rounds_what_no_data_reaches_to_the_nearest() -> None:
    weight, x = weights(128, 48), correlated(128)
    dead = [0, 5, 40, 127]
    x[:, dead] = 0
    codes, scale, zero = round_in_order(weight, error_feedback(Inputs((x,)).second_moment), 32)
    found = decoded(codes, scale, zero, 128)

    assert np.all(np.isfinite(found))
    steps = np.repeat(scale.astype(np.float64), 32, axis=1).T
    clipped = np.abs(found - weight) > 0.5001 * steps  # a block's range is set at its start
    assert np.mean(clipped[dead]) < 0.02


@pytest.mark.parametrize("degrees", [2, 3])
def test_hqq_is_nearer_than_rounding_where_tails_are_heavy(degrees: int) -> None:
    weight = (0.02 * np.random.default_rng(3).standard_t(degrees, (320, 96))).astype(np.float32)

    def error(codes: Array, scale: Array, zero: Array) -> float:
        return float(np.abs(decoded(codes, scale, zero, 320) - weight).sum())

    assert error(*half_quadratic(weight)) < 0.97 * error(*round_blocks(weight, 4, 64))


def test_hqq_never_leaves_a_block_worse_and_takes_zeros() -> None:
    weight = weights(128, 40)
    weight[:64, :3] = 0
    weight[64:, 5] = 0.25
    error = [
        np.abs(decoded(*found, 128) - weight).reshape(2, 64, 40).sum(1)
        for found in (half_quadratic(weight), round_blocks(weight, 4, 64))
    ]

    assert np.all(error[0] <= error[1] + 1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_columns_that_are_rounded_at_a_time_stay_where_they_are(bits: int) -> None:
    weight = weights(4096, 600)  # three times what a thread takes
    alone = [round_blocks(weight[:, i : i + 1], bits, 128) for i in (0, 255, 256, 511, 512, 599)]

    together = [part[[0, 255, 256, 511, 512, 599]] for part in round_blocks(weight, bits, 128)]

    for part, each in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(part, np.concatenate(each))


# --- low rank -------------------------------------------------------------------------------------------------------


def product_of(form: Form) -> Array:
    """A·B of an fp32 form without bias."""
    inner = form.term.inputs[0]
    assert isinstance(inner, Expression)
    return constants(inner)[0].astype(np.float64) @ constants(form.term)[0]


def test_whitened_svd_is_the_best_of_its_rank_and_is_lord() -> None:
    weight, x = weights(160, 96), correlated(160, rows=1024)
    outputs = x.astype(np.float64) @ weight
    values = np.linalg.svd(outputs, compute_uv=False)
    _, eigenvectors = np.linalg.eigh(outputs.T @ outputs)
    forms = [f for f in whitened_svd.forms(linear(weight), Inputs((x,))) if "int8" not in f.setting]

    assert len(forms) == 3
    for form in forms:
        rank = int(form.setting.split()[1])
        found = x.astype(np.float64) @ product_of(form)
        least = np.linalg.norm(values[rank:])
        assert np.linalg.matrix_rank(found) == rank
        assert least * (1 - 1e-6) <= np.linalg.norm(outputs - found) <= least * (1 + 1e-3)
        kept = eigenvectors[:, -rank:]
        assert abs(np.linalg.norm(outputs - outputs @ kept @ kept.T) / least - 1) < 1e-3
        assert distance(found, outputs @ kept @ kept.T) < 1e-3 + 1e-2 * least / np.linalg.norm(values)


def test_plain_svd_loses_more() -> None:
    weight, x = weights(160, 96), correlated(160, rows=1024)
    outputs = x.astype(np.float64) @ weight
    u, s, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    for form in whitened_svd.forms(linear(weight), Inputs((x,)))[::2]:
        rank = int(form.setting.split()[1])
        plain = x @ ((u[:, :rank] * s[:rank]) @ v[:rank])
        assert distance(x @ product_of(form), outputs) < 0.9 * distance(plain, outputs)


def test_whitened_svd_needs_no_more_samples_than_there_are() -> None:
    values, directions = output_directions(weights(64, 48), Inputs((correlated(64, rows=5),)).second_moment)

    assert np.all(np.diff(values) <= 0)
    assert np.all(np.isfinite(directions))


@pytest.mark.parametrize("name", ["whitened_svd", "welore"])
@pytest.mark.parametrize(("width", "outputs"), [(128, 96), (200, 72)])
def test_two_factors_are_offered_where_they_save(name: str, width: int, outputs: int) -> None:
    forms, _ = offered(name, width, outputs, False)
    for form in forms:
        rank = int(form.setting.split()[1].rstrip(","))
        assert rank % 8 == 0
        assert 0 < rank < break_even((width, outputs))
        if "int8" not in form.setting:
            assert form.stored == 4 * rank * (width + outputs) < 4 * width * outputs


def test_low_rank_is_refused_where_it_saves_nothing() -> None:
    flat = np.linalg.qr(weights(96, 96))[0].astype(np.float32)
    with pytest.raises(Skip, match="no heavy tail"):
        welore.forms(linear(flat), Inputs(()))
    with pytest.raises(Skip, match="no heavy tail"):
        welore.forms(linear(np.zeros((32, 32), np.float32)), Inputs(()))
    with pytest.raises(Skip, match="too few for any"):
        whitened_svd.forms(linear(weights(64, 8)), Inputs((correlated(64),)))


def test_heavy_rank_counts_normalised_values() -> None:
    values = np.asarray([11.0, 6.0, 3.0, 2.0, 1.0])

    assert heavy_rank(values, 0.2) == 3
    assert heavy_rank(values, 0.1) == 4
    assert heavy_rank(np.ones(4), 0.2) == 4


def test_scales_in_8_bits_are_nearly_the_scales() -> None:
    scale = np.abs(np.random.default_rng(0).standard_normal((16, 12))).astype(np.float32) + 0.1

    written = scales_in_8_bits(scale)
    assert isinstance(written, Expression)
    codes, unit = written.inputs
    assert isinstance(codes, Expression)
    assert isinstance(unit, np.ndarray)
    found = np.multiply(constants(codes)[0], unit)

    assert constants(codes)[0].dtype == np.uint8
    assert np.abs(found - scale).max() <= scale.max() / 509
    assert isinstance(scales_in_8_bits(scale[:, :1]), np.ndarray)
