"""Products of 8-bit codes are what they should be on this processor, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

import tamago
from tamago.backends.onnxruntime import code_sums
from tamago.backends.onnxruntime.channels_last import channels_last
from tamago.backends.onnxruntime.code_sums import doubt_of, sums_are_wide
from tamago.backends.onnxruntime.run import Program
from tamago.compiler.code_pairs import MOST, as_factor, in_doubt
from tamago.compiler.facts import Array
from tamago.rewrites.quantization.symmetric import columns_int8, factor_int8, kernel_int8


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def extremes(*shape: int) -> Array:
    """The codes whose products are the largest."""
    return (np.random.default_rng([7, *shape]).random(shape) < 0.7).astype(np.uint8) * 255


def with_codes(text: str, q: Array) -> ir.Model:
    """A graph that reads `q`."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> {text}')
    model.graph.initializer.append(numpy_helper.from_array(q, "q"))
    return ir.from_proto(model)


def integer_product(u: Array, q: Array) -> ir.Model:
    return with_codes(f"g (uint8[{u.shape[0]}, {u.shape[1]}] u) => (int32[m, n] y) {{ y = MatMulInteger (u, q) }}", q)


def integer_convolution(u: Array, q: Array, groups: int) -> ir.Model:
    pads = [q.shape[2] // 2, q.shape[3] // 2] * 2
    return with_codes(
        f"""g (uint8[{", ".join(map(str, u.shape))}] u) => (uint8[n, o, h, w] y)
        <float s = {{1}}, uint8 z = {{0}}, float t = {{0.0005}}, int8 qz = {{0}}, float r = {{1}},
        uint8 rz = {{128}}> {{
        y = QLinearConv <group = {groups}, pads = {pads}> (u, s, z, q, t, qz, r, rz) }}""",
        q,
    )


def convolved(u: Array, q: Array, groups: int) -> Array:
    import torch

    x, w = torch.from_numpy(u.astype(np.float64)), torch.from_numpy(q.astype(np.float64))
    pads = (q.shape[2] // 2, q.shape[3] // 2)
    sums = torch.nn.functional.conv2d(x, w, padding=pads, groups=groups).numpy()
    return np.clip(np.rint(sums.astype(np.float32) * np.float32(0.0005)) + 128, 0, 255)


def heavy(*shape: int) -> Array:
    """Neighbours of one sign, as large as they come."""
    return np.full(shape, 3, np.float32)


@pytest.mark.parametrize("make", [weights, heavy])
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("shape", [(1, 3), (7, 16), (64, 40), (129, 33)])
def test_products_are_exact(rows: int, shape: tuple[int, int], make: Any) -> None:
    codes, _ = factor_int8(make(*shape), wide=False)
    u = extremes(rows, shape[0])

    (found,) = Program(integer_product(u, codes), 1)({"u": u})

    np.testing.assert_array_equal(found, u.astype(np.int64) @ codes.astype(np.int64))


@pytest.mark.parametrize("make", [weights, heavy])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((8, 3, 3, 3), 1),
        ((16, 8, 1, 1), 1),
        ((6, 5, 3, 3), 1),
        ((16, 4, 3, 3), 4),
        ((12, 1, 3, 3), 12),
        ((8, 1, 5, 5), 4),
    ],
)
def test_convolutions_are_exact(shape: tuple[int, ...], groups: int, make: Any) -> None:
    codes, _ = kernel_int8(make(*shape), groups, wide=False)
    u = extremes(2, shape[1] * groups, 6, 7)

    (found,) = Program(integer_convolution(u, codes, groups), 1)({"u": u})

    np.testing.assert_array_equal(found, convolved(u, codes, groups))


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_neighbours_of_one_sign_add_up_to_no_more_than_16_bits_hold(rows: int, columns: int, seed: int) -> None:
    weight = np.multiply(weights(rows, columns, seed=seed), np.float32(10.0 ** (seed % 7 - 3)))

    codes, scale = factor_int8(weight, wide=False)

    wide = codes.astype(int)
    for first, second in zip(wide[0::2], wide[1::2], strict=False):
        assert np.all(np.maximum(first, 0) + np.maximum(second, 0) <= MOST)
        assert np.all(np.minimum(first, 0) + np.minimum(second, 0) >= -MOST)
    assert np.all(np.abs(np.multiply(wide, scale) - weight) <= np.multiply(scale, 0.5001))


def test_what_needs_no_smaller_codes_has_none() -> None:
    weight = weights(64, 8)
    alone = weights(8, 1, 3, 3)

    for mine, plain in zip(factor_int8(weight, wide=True), columns_int8(weight), strict=True):
        np.testing.assert_array_equal(mine, plain)
    for mine, plain in zip(kernel_int8(alone, 8, wide=False), kernel_int8(alone, 8, wide=True), strict=True):
        np.testing.assert_array_equal(mine, plain)
    opposite = np.tile(np.asarray([[1.0], [-1.0]], np.float32), (4, 3))
    np.testing.assert_array_equal(factor_int8(opposite, wide=False)[0], columns_int8(opposite)[0])


def test_a_kernel_is_coded_by_output_channel_as_it_lies() -> None:
    weight = weights(6, 5, 3, 2)

    codes, scale = kernel_int8(weight, 1, wide=False)
    by_column, widths = factor_int8(as_factor(weight), wide=False)

    assert codes.shape == weight.shape
    np.testing.assert_array_equal(scale, widths)
    np.testing.assert_array_equal(as_factor(codes), by_column)
    assert np.abs(np.multiply(codes, scale[:, None, None, None]) - weight).max() <= 0.5001 * float(scale.max())


def large_codes() -> tuple[Array, Array]:
    return np.full((3, 8), 255, np.uint8), np.full((8, 4), 127, np.int8)


def test_the_probe_says_what_products_do() -> None:
    u, q = large_codes()
    session: Any = onnxruntime.InferenceSession(
        ir.to_proto(integer_product(u, q)).SerializeToString(), providers=["CPUExecutionProvider"]
    )

    found = session.run(None, {"u": u})[0]

    assert bool(np.array_equal(found, u.astype(int) @ q.astype(int))) == sums_are_wide()


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_codes_that_are_too_large_are_multiplied_by_other_kernels(rows: int) -> None:
    u, q = np.full((rows, 37), 255, np.uint8), np.full((37, 20), 127, np.int8)
    x, k = np.full((1, 16, 5, 5), 255, np.uint8), np.full((8, 16, 3, 3), 127, np.int8)

    (product,) = Program(integer_product(u, q), 1)({"u": u})
    (picture,) = Program(integer_convolution(x, k, 1), 1)({"u": x})

    np.testing.assert_array_equal(product, u.astype(int) @ q.astype(int))
    np.testing.assert_array_equal(picture, convolved(x, k, 1))


CONVOLVED = "y = {op}Conv <group = {group}> (u, s, z, q, s, z8, s, z)"
DECODED = "a = DequantizeLinear (u, s) b = DequantizeLinear (q, s) c = {op} (a, b) y = QuantizeLinear (c, s, z)"


@pytest.mark.parametrize(
    ("text", "shape", "count"),
    [
        ("y = MatMulInteger (u, q)", (4, 4), 1),
        ("p = Identity (q) r = Transpose <perm = [1, 0]> (p) y = MatMulInteger (u, r)", (4, 4), 1),
        (DECODED.format(op="MatMul"), (4, 4), 1),
        (DECODED.format(op="Gemm <transB = 1>"), (3, 4), 1),
        (DECODED.format(op="Add"), (4, 4), 0),
        ("a = Cast <to = 1> (u) b = DequantizeLinear (q, s) y = MatMul (a, b)", (4, 4), 0),  # in single precision
        ("y = com.microsoft.QGemm (u, s, z, q, s, z8, n, s, z)", (4, 4), 1),
        (CONVOLVED.format(op="QLinear", group=1), (4, 4, 1, 1), 1),
        (CONVOLVED.format(op="com.microsoft.QLinear", group=1), (4, 4, 1, 1), 1),
        (CONVOLVED.format(op="QLinear", group=4), (4, 1, 3, 3), 0),
    ],
)
@pytest.mark.parametrize(("code", "large"), [(127, True), (64, False)])
def test_codes_in_doubt_are_counted(text: str, shape: tuple[int, ...], count: int, code: int, large: bool) -> None:
    model = with_codes(
        f"g (uint8[a, b] u) => (y) <float s = {{1}}, uint8 z = {{0}}, int8 z8 = {{0}}> {{ {text} }}",
        np.full(shape, code, np.int8),
    )

    assert in_doubt(model) == (count if large else 0)


def test_a_constant_node_is_a_constant_too() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]> g (uint8[2, 2] u) => (int32[2, 1] y) {
        q = Constant <value = int8[2, 1] {127, 127}> () y = MatMulInteger (u, q) }"""
    )

    assert in_doubt(model) == 1


def test_signed_codes_have_kernels_of_their_own() -> None:
    q = np.full((4, 4), 127, np.int8)
    x = np.full((3, 4), 127, np.int8)

    model = with_codes("g (int8[3, 4] u) => (int32[3, 4] y) { y = MatMulInteger (u, q) }", q)

    assert in_doubt(model) == 0
    np.testing.assert_array_equal(Program(model, 1)({"u": x})[0], x.astype(int) @ q.astype(int))


def test_a_layout_changes_no_doubt() -> None:
    weight = np.full((64, 16, 3, 3), 127, np.int8)
    body = """a = DequantizeLinear (u, s, z) b = DequantizeLinear (q, s, z8) c = Conv <pads = [1,1,1,1]> (a, b)
        d = QuantizeLinear (c, t, z) e = DequantizeLinear (d, t, z) y = Relu (e)"""
    constants = "float s = {0.01}, float t = {9}, uint8 z = {0}, int8 z8 = {0}"
    model = with_codes(f"g (uint8[1, 16, 8, 8] u) => (float[1, 64, 8, 8] y) <{constants}> {{ {body} }}", weight)
    laid = channels_last(model)

    assert laid is not None
    assert any(n.op_type == "QLinearConv" and n.domain == "com.microsoft" for n in laid.graph)
    assert in_doubt(model) == in_doubt(laid) == 1


def test_what_the_other_kernels_do_not_load_runs_with_a_word() -> None:
    """ONNX Runtime makes zero points anew for each weight, and stumbles over one that two weights have."""
    scales, zeros = ", ".join(["0.01"] * 16), ", ".join(["0"] * 16)
    body = """a = DequantizeLinear (u, s, z) b = DequantizeLinear <axis = 0> (q, each, zeros) c = Conv (a, b)
        d = QuantizeLinear (c, t, z) e = DequantizeLinear (d, t, z) f = DequantizeLinear <axis = 0> (q, each, zeros)
        g = Conv (e, f) h = QuantizeLinear (g, t, z) y = DequantizeLinear (h, t, z)"""
    vectors = f"float[16] each = {{{scales}}}, int8[16] zeros = {{{zeros}}}"
    constants = f"float s = {{0.01}}, float t = {{9}}, uint8 z = {{0}}, {vectors}"
    weight = np.full((16, 16, 1, 1), 127, np.int8)
    model = with_codes(f"g (uint8[1, 16, 8, 8] u) => (float[1, 16, 8, 8] y) <{constants}> {{ {body} }}", weight)

    program = Program(model, 1)

    assert program({"u": np.zeros((1, 16, 8, 8), np.uint8)})[0].shape == (1, 16, 8, 8)
    assert ("results may be wrong" in program.note) == (not sums_are_wide())


@pytest.mark.parametrize("wide", [True, False])
def test_a_program_from_elsewhere_is_loaded_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    path = tmp_path / "elsewhere.onnx"
    u, q = large_codes()
    ir.save(integer_product(u, q), path)
    monkeypatch.setattr(code_sums, "sums_are_wide", lambda: wide)

    if wide:
        assert tamago.load(path).report.notes == []
        assert doubt_of(ir.load(path)) == ""
        return
    with pytest.warns(RuntimeWarning, match="1 products of 8-bit codes are for a processor"):
        loaded = tamago.load(path)
    assert any("32 bits" in note for note in loaded.report.notes)
    np.testing.assert_array_equal(loaded(u)[0], u.astype(int) @ q.astype(int))
