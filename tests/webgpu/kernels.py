"""Models in a line, and their kernels in a form of one's choice."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import parser

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.kernels.registry import KERNELS, Form
from tamago.backends.webgpu.limits import Limits
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.plan import Plan
from tamago.backends.webgpu.run import Loaded

Array = np.ndarray[Any, Any]
HEAD = '<ir_version: 10, opset_import: ["": 21]>\n'
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 2e-3}


def model_of(text: str) -> onnx.ModelProto:
    """A model from ONNX's text."""
    return parser.parse_model(HEAD + text)


def feeds_of(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Normal random numbers for its inputs."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        found[value.name] = random.standard_normal(shape).astype(kind)
    return found


def wanted(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Array:
    """ONNX Runtime's result."""
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, dict(feeds))[0])


def planned(
    model: onnx.ModelProto, device: Device, candidates: int = 1, **limits: int
) -> tuple[Plan, dict[str, Array]]:
    """The plan for a GPU with a device's features, or with limits of one's own."""
    allowed = replace(device.limits, software=False) if not limits else replace(Limits(), **limits)  # pyright: ignore
    return plan_of(ir.from_proto(model), half=device.half, candidates=candidates, limits=allowed)


@contextmanager
def only(op: str, form: Form) -> Generator[None]:
    """An operator's kernels are written in this form alone."""
    rule = KERNELS["", op]
    KERNELS["", op] = replace(rule, forms=lambda node: [form])
    try:
        yield
    finally:
        KERNELS["", op] = rule


def check(model: onnx.ModelProto, device: Device, plan: Plan, weights: Mapping[str, Array]) -> None:
    """The plan's result is ONNX Runtime's."""
    feeds = feeds_of(model)
    close(Loaded(plan, weights, device)(feeds)[0], wanted(model, feeds))


def close(found: Array, right: Array) -> None:
    """Equal up to rounding."""
    assert found.shape == right.shape
    assert found.dtype == right.dtype
    scale = max(float(np.abs(right).max(initial=0.0)), 1e-6)
    np.testing.assert_allclose(found / scale, right / scale, rtol=0, atol=TOLERANCE[found.dtype])
