"""Fourier transforms beside numpy's: lengths, axes, parts, both directions; what is too long is left to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.fourier import matrix
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.run import Loaded
from tamago.compiler.errors import TamagoError
from tests.node_cases import floats

Array = np.ndarray[Any, Any]
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}


def model(op: str, x: Array, constants: Sequence[Any], **attributes: Any) -> onnx.ModelProto:
    names = ["x", *("" if a is None else f"c{i}" for i, a in enumerate(constants))]
    kind = KINDS[x.dtype]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(a, f"c{i}") for i, a in enumerate(constants) if a is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: onnx.ModelProto, x: Array, device: Device) -> Any:
    plan, weights = plan_of(ir.from_proto(proto), half=device.half)
    return Loaded(plan, weights, device)({"x": x})[0]


def near(found: Any, right: Any, allowed: float = 2e-6) -> None:
    assert found.shape == right.shape
    scale = float(np.abs(right).max())
    np.testing.assert_allclose(found / scale, right / scale, rtol=0, atol=allowed)


def as_complex(x: Array) -> Any:
    return x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)


def in_parts(y: Any) -> Any:
    return np.stack([y.real, y.imag], -1)


@pytest.mark.parametrize("length", [None, 1, 7, 12, 16])
@pytest.mark.parametrize("axis", [1, 2, -2, -3])
@pytest.mark.parametrize("parts", [1, 2])
def test_both_directions(length: int | None, axis: int, parts: int, device: Device) -> None:
    x = floats(2, 12, 5, parts, seed=3)
    along = axis if axis > 0 else axis + 1  # of complex numbers
    constants = [None if length is None else np.asarray(length), np.asarray(axis)]
    forward = run(model("DFT", x, constants), x, device)
    near(forward, in_parts(np.fft.fft(as_complex(x), length, along)))
    back = run(model("DFT", x, constants, inverse=1), x, device)
    near(back, in_parts(np.fft.ifft(as_complex(x), length, along)))


@pytest.mark.parametrize("length", [None, 9, 10, 14])
def test_half_of_the_frequencies(length: int | None, device: Device) -> None:
    x, spectrum = floats(3, 10, 1, seed=1), floats(3, 6, 2, seed=2)
    constants = None if length is None else np.asarray(length)
    near(run(model("DFT", x, [constants], onesided=1), x, device), in_parts(np.fft.rfft(x[..., 0], length)))
    back = run(model("DFT", spectrum, [constants], onesided=1, inverse=1), spectrum, device)
    near(back, np.fft.irfft(as_complex(spectrum), length)[..., None])


@pytest.mark.parametrize(("count", "step", "length"), [(64, 16, 32), (50, 7, 13), (13, 3, 13), (14, 5, 1)])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("windowed", [True, False])
def test_frames_of_a_signal(count: int, step: int, length: int, parts: int, windowed: bool, device: Device) -> None:
    x = floats(2, count, parts, seed=5)
    window = np.hanning(length + 2)[1:-1].astype(np.float32)
    frames = [as_complex(x)[:, i : i + length] for i in range(0, count - length + 1, step)]
    right = np.fft.fft(np.stack(frames, 1) * (window if windowed else 1))
    right = right[..., : length // 2 + 1] if parts == 1 else right
    constants = [np.asarray(step), window if windowed else None, None if windowed else np.asarray(length)]
    found = run(model("STFT", x, constants, onesided=int(parts == 1)), x, device)
    near(found, in_parts(right))


def test_half_precision(device: Device) -> None:
    x = floats(2, 30, 1, seed=1).astype(np.float16)
    found = run(model("DFT", x, []), x, device)
    assert found.dtype == np.float16
    near(found.astype(np.float32), in_parts(np.fft.fft(x[..., 0].astype(np.float32))), 1e-3)


def test_every_number_of_a_matrix_is_the_nearest() -> None:
    found = matrix(1000, 1, 1000, inverse=False, onesided=False).reshape(1000, 1000, 2)
    angle = 2 * np.pi * (np.arange(1000)[:, None] * np.arange(1000) % 1000) / 1000
    np.testing.assert_allclose(found[..., 0], np.cos(angle), rtol=0, atol=6e-8)
    np.testing.assert_allclose(found[..., 1], -np.sin(angle), rtol=0, atol=6e-8)


def test_what_is_too_long_is_refused() -> None:
    x = np.zeros((1, 4096, 1), np.float32)
    with pytest.raises(TamagoError) as error:
        plan_of(ir.from_proto(model("DFT", x, [])))
    assert error.value.code == "B031"
    assert "DFT" in str(error.value)
    plan, _ = plan_of(ir.from_proto(model("DFT", x[:, :1024], [])))
    assert len(plan.dispatches) == 1
