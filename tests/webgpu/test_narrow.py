"""Weights of single precision that lie in half."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from tamago.backends.onnxruntime.run import Program as OnnxRuntime
from tamago.backends.webgpu.device import default_device
from tamago.backends.webgpu.expression import shape_of
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.narrow import with_narrow_weights
from tamago.backends.webgpu.plan import F16
from tamago.backends.webgpu.run import Loaded
from tests.node_cases import floats
from tests.webgpu.kernels import model_of


def weighted(text: str, **weights: np.ndarray) -> ir.Model:
    model = model_of(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return ir.from_proto(model)


MODELS = {
    "product": weighted("g (float[3, 64] x) => (float[3, 40] y) { y = MatMul (x, w) }", w=floats(64, 40, seed=1)),
    "turned": weighted(
        "g (float[9, 64] x) => (float[9, 40] y) { y = Gemm <transB = 1> (x, w, b) }",
        w=floats(40, 64, seed=1),
        b=floats(40, seed=2),
    ),
    "convolution": weighted(
        "g (float[1, 8, 9, 7] x) => (float[1, 16, 9, 7] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
        w=floats(16, 8, 3, 3, seed=1),
    ),
    "table": weighted("g (int64[5] x) => (float[5, 16] y) { y = Gather (w, x) }", w=floats(30, 16, seed=1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_result_is_that_of_rounded_weights(name: str) -> None:
    device, model = default_device(), MODELS[name]
    if not device.half:
        pytest.skip("the adapter has no half precision")
    plan, weights = plan_of(model, half=True, narrow_weights=True, limits=device.limits)
    x = np.arange(5) * 7 % 30 if name == "table" else floats(*shape_of(model.graph.inputs[0]), seed=9)

    (found,) = Loaded(plan, weights, device)({"x": x})

    (wanted,) = OnnxRuntime(with_narrow_weights(model))({"x": x})
    np.testing.assert_allclose(np.asarray(found, np.float32), wanted, rtol=1e-4, atol=1e-4)
    assert weights["w"].dtype == np.float16
    assert F16 in plan.features
    assert all(array.dtype == np.float32 for n, array in weights.items() if n == "b")


def test_what_overflows_half_precision_stays_as_it_is() -> None:
    w = floats(64, 40, seed=1)
    w[3, 3] = 1e5
    model = weighted("g (float[3, 64] x) => (float[3, 40] y) { y = MatMul (x, w) }", w=w)
    _, weights = plan_of(model, half=True, narrow_weights=True)
    assert weights["w"].dtype == np.float32


def test_half_is_asked_for_or_not_used() -> None:
    plan, weights = plan_of(MODELS["product"])
    assert weights["w"].dtype == np.float32
    assert not plan.features


def test_what_a_result_starts_from_lies_as_the_result_does() -> None:
    w = floats(32, 16, seed=1)
    model = weighted(
        "g (int64[2, 16] i, float[2, 16] u) => (float[32, 16] y) { y = ScatterElements <axis = 0> (w, i, u) }", w=w
    )
    i, u = np.array([[3] * 16, [9] * 16]), floats(2, 16, seed=2)
    device = default_device()
    plan, weights = plan_of(model, half=device.half, narrow_weights=device.half, limits=device.limits)
    (found,) = Loaded(plan, weights, device)({"i": i, "u": u})
    w[3], w[9] = u
    np.testing.assert_array_equal(np.asarray(found, np.float32), w)


def test_weights_that_would_vanish_stay_as_they_are() -> None:
    model = weighted("g (float[3, 64] x) => (float[3, 40] y) { y = MatMul (x, w) }", w=floats(64, 40, seed=1) * 1e-7)
    _, weights = plan_of(model, half=True, narrow_weights=True)
    assert weights["w"].dtype == np.float32
