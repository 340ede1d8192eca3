"""Weights that are larger than a binding are read in pieces, with the same results; what cannot be split is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.limits import Limits
from tamago.backends.webgpu.lowering import TooLarge, plan_of
from tamago.backends.webgpu.partition import Partitioned
from tamago.backends.webgpu.run import Loaded, Program
from tests.node_cases import floats
from tests.webgpu.kernels import close, model_of

Array = np.ndarray[Any, Any]
BINDING = 1 << 14
EDGES = np.asarray([[0, 63, 64, 127, 128, 129, -1, -300, 299, 2]])


def model(text: str, **weights: Array) -> onnx.ModelProto:
    """From ONNX's text, its weights beside it."""
    found = model_of(text)
    found.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return found


def levels(*shape: int, kind: type = np.int8) -> Array:
    return np.random.default_rng(1).integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)


def scales(*shape: int) -> Array:
    return (0.01 + 0.01 * np.abs(floats(*shape, seed=4))).astype(np.float32)


def few_bits(rows: int, bits: int, zeros: bool) -> tuple[onnx.ModelProto, dict[str, Array]]:
    attributes = f"K = 96, N = 200, bits = {bits}, block_size = 32"
    operands = "x, w, s, z" if zeros else "x, w, s"
    weights = {"w": levels(200, 3, 4 * bits, kind=np.uint8), "s": scales(600)}
    weights |= {"z": levels(200 * (2 if bits == 4 else 3), kind=np.uint8)} if zeros else {}
    text = (
        f"g (float[{rows},96] x) => (float[{rows},200] y) {{ y = com.microsoft.MatMulNBits<{attributes}>({operands}) }}"
    )
    return model(text, **weights), {"x": floats(rows, 96)}


W = floats(300, 48, seed=1)
TURNED = floats(48, 300, seed=1)
TIED = "g (int64[1,10] i) => (float[1,10,300] y) { h = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(h, t) }"
DEQUANTISED = (
    "g (int64[1,10] i) => (float[1,10,300] y) {{ w = DequantizeLinear<axis={axis}, block_size={block}>(q, s) "
    "h = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(h, t) }}"
)


def dequantised(axis: int, block: int, *scaled: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    return model(DEQUANTISED.format(axis=axis, block=block), q=levels(300, 48), s=scales(*scaled)), {"i": EDGES}


def of_rows(rows: int, columns: int, nodes: str, **weights: Array) -> tuple[onnx.ModelProto, dict[str, Array]]:
    text = f"g (float[{rows},48] x) => (float[{rows},{columns}] y) {{ {nodes} }}"
    return model(text, **weights), {"x": floats(rows, 48)}


GEMM = "y = Gemm<alpha=0.5, beta=2.0>(x, w, c)"
CASES: dict[str, tuple[onnx.ModelProto, dict[str, Array]]] = {
    "an embedding that is also the last matrix": (model(TIED, w=W), {"i": EDGES}),
    "in more pieces than a kernel binds": (
        model(TIED.replace("300", "3000").replace("10", "1"), w=floats(3000, 48)),
        {"i": np.asarray([[2999]])},
    ),
    "columns of a gather": (
        model("g (int32[2,3] i) => (float[48,2,3] y) { y = Gather<axis=1>(w, i) }", w=TURNED),
        {"i": np.asarray([[0, 63, 64], [-1, -300, 299]], np.int32)},
    ),
    "a gather of one row": (model("g (int64 i) => (float[48] y) { y = Gather(w, i) }", w=W), {"i": np.asarray(130)}),
    "a product of one row": of_rows(1, 300, "y = MatMul(x, w)", w=TURNED),
    "a product of a vector": (
        model("g (float[48] x) => (float[300] y) { y = MatMul(x, w) }", w=TURNED),
        {"x": floats(48)},
    ),
    "with a bias and what follows": of_rows(
        10, 300, "p = MatMul(x, w) b = Add(p, c) y = Softmax(b)", w=TURNED, c=floats(300)
    ),
    "Gemm": of_rows(9, 300, GEMM, w=TURNED, c=floats(300)),
    "Gemm, turned, with one number": of_rows(9, 300, "y = Gemm<transB=1>(x, w, c)", w=W, c=floats(1)),
    "Gemm with a value for each result": (
        model("g (float[9,48] x, float[9,300] c) => (float[9,300] y) { y = Gemm<transB=1>(x, w, c) }", w=W),
        {"x": floats(9, 48), "c": floats(9, 300, seed=7)},
    ),
    "8 bits, a scale for each row": dequantised(0, 0, 300),
    "8 bits, a scale for each column": dequantised(1, 0, 48),
    "8 bits in blocks": dequantised(1, 16, 300, 3),
    "8 bits in blocks of rows": dequantised(0, 4, 75, 48),
    "half precision": of_rows(5, 600, "f = Cast<to=1>(w) y = MatMul(x, f)", w=floats(48, 600).astype(np.float16)),
    "scaled columns": of_rows(
        9, 300, "f = Cast<to=1>(w) v = Mul(f, s) y = MatMul(x, v)", w=levels(48, 300), s=scales(300)
    ),
    "4 bits, many rows": few_bits(9, 4, True),
    "4 bits, a row": few_bits(1, 4, True),
    "8 bits, many rows": few_bits(9, 8, True),
    "8 bits without zeros, many rows": few_bits(9, 8, False),
}


@pytest.mark.parametrize("name", CASES)
def test_pieces_give_the_same_result(name: str, device: Device) -> None:
    proto, feeds = CASES[name]
    most = BINDING if "a row" not in name else 1 << 13
    limits = Limits(binding=most, most=most)
    whole, _ = plan_of(ir.from_proto(proto), half=device.half)

    plan, weights = plan_of(ir.from_proto(proto), half=device.half, limits=limits)

    assert max(whole.buffers) > most >= max(plan.buffers)
    assert max(len(kernel.written) for kernel in plan.kernels) <= limits.buffers
    close(Loaded(plan, weights, device)(feeds)[0], Reference(ir.from_proto(proto))(feeds)[0])


def test_an_embedding_that_is_also_the_last_matrix_is_kept_once(device: Device) -> None:
    many = model(TIED.replace("300", "6000"), w=floats(6000, 48))
    plan, weights = plan_of(ir.from_proto(many), half=device.half)
    assert sum(w.nbytes for w in weights.values()) < 1.1 * 6000 * 48 * 4
    assert not plan.setup
    feeds = {"i": 20 * EDGES}
    close(Loaded(plan, weights, device)(feeds)[0], Reference(ir.from_proto(many))(feeds)[0])


def test_a_matrix_that_is_only_turned_is_turned_ahead(device: Device) -> None:
    alone = model(
        "g (float[9,48] x) => (float[9,6000] y) { t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) }", w=floats(6000, 48)
    )
    _, weights = plan_of(ir.from_proto(alone), half=device.half)
    assert [w.shape for w in weights.values()] == [(48, 6000)]


LARGE = (
    "g (float[100,48] x) => (float[100] y) { r = Relu(x) big = MatMul(r, w) e = Exp(big) "
    "s = ReduceMax<keepdims=0>(big, a) t = ReduceMin<keepdims=0>(e, a) u = Add(s, t) y = Neg(u) }"
)


def test_what_cannot_be_split_is_named_with_its_size() -> None:
    proto = model(LARGE, w=TURNED, a=np.asarray([1]))
    with pytest.raises(TooLarge) as error:
        plan_of(ir.from_proto(proto), limits=Limits(binding=1 << 16, most=1 << 16))
    assert error.value.code == "B034"
    assert "big (120,000 bytes)" in str(error.value)
    assert "65,536" in str(error.value)


def test_a_page_that_asks_for_more_is_written_all_the_same() -> None:
    plan, _ = plan_of(ir.from_proto(model(LARGE, w=TURNED, a=np.asarray([1]))), limits=Limits(binding=1 << 16))
    assert max(plan.buffers) == 120_000


def run_where_at_most(most: int, device: Device, monkeypatch: pytest.MonkeyPatch) -> Partitioned:
    """A program that has run, rightly, on a device that binds so many bytes."""
    monkeypatch.setattr(Device, "limits", Limits(binding=most, most=most))
    proto = model(LARGE, w=TURNED, a=np.asarray([1]))
    program = Partitioned(ir.from_proto(proto), device, OnnxRuntime().lower)
    feeds = {"x": floats(100, 48)}

    (y,) = program(feeds)

    close(y, Reference(ir.from_proto(proto))(feeds)[0])
    assert "big" in program.note
    return program


def test_the_rest_of_a_model_stays_on_a_device_that_is_too_small_for_a_value(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run_where_at_most(1 << 16, device, monkeypatch)

    parts = next(iter(program._parts.values()))  # pyright: ignore[reportPrivateUsage]
    assert [isinstance(part.program, Program) for part in parts] == [True, False, True]


def test_what_fits_is_not_split() -> None:
    proto = model(TIED, w=W)
    plan, weights = plan_of(ir.from_proto(proto))
    assert len(weights) == 2
    assert len(plan.dispatches) == 1


def test_products_of_pieces_that_are_too_large_run_elsewhere(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    run_where_at_most(1 << 15, device, monkeypatch)
