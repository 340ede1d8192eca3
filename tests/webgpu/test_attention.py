"""The attention kernel against the standard's own definition in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from tamago.backends.webgpu.device import default_device
from tamago.backends.webgpu.run import Program
from tests.node_cases import floats

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.bool_): TensorProto.BOOL}


def program(feeds: dict[str, np.ndarray], **attributes: Any) -> Program:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Attention", list(feeds), ["y"], **attributes)],
        "g",
        [info(name, KINDS[array.dtype], array.shape) for name, array in feeds.items()],
        [info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return Program(ir.from_proto(model), default_device())


def softmax(x: np.ndarray) -> np.ndarray:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, *, causal: bool = False
) -> np.ndarray:
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, 1), np.repeat(v, repeats, 1)
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], np.bool_)), scores, -np.inf)
    return softmax(scores) @ v


@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [7, 200])
def test_heads_keys_and_causality(heads: int, causal: bool, keys: int) -> None:
    q, k, v = floats(2, 4, 7, 8, seed=1), floats(2, heads, keys, 8, seed=2), floats(2, heads, keys, 6, seed=3)
    found = program({"q": q, "k": k, "v": v}, is_causal=int(causal))
    (y,) = found({"q": q, "k": k, "v": v})
    np.testing.assert_allclose(y, attention(q, k, v, causal=causal), rtol=1e-4, atol=1e-5)
    assert len(found.loaded({"q": q, "k": k, "v": v}).plan.dispatches) == 1


@pytest.mark.parametrize("shape", [(5, 7), (1, 1, 5, 7), (2, 1, 5, 7), (2, 4, 5, 7)])
@pytest.mark.parametrize("boolean", [False, True])
def test_masks(shape: tuple[int, ...], boolean: bool) -> None:
    q, k, v = floats(2, 4, 5, 8, seed=1), floats(2, 4, 7, 8, seed=2), floats(2, 4, 7, 6, seed=3)
    mask = floats(*shape, seed=4)
    if boolean:
        mask = mask > -0.5
        mask[..., 0] = True  # a row that sees nothing is nobody's to define
    feeds = {"q": q, "k": k, "v": v, "m": mask}
    np.testing.assert_allclose(program(feeds)(feeds)[0], attention(q, k, v, mask), rtol=1e-4, atol=1e-5)


def test_heads_side_by_side_in_the_last_axis() -> None:
    q, k, v = floats(2, 5, 32, seed=1), floats(2, 7, 16, seed=2), floats(2, 7, 16, seed=3)
    feeds = {"q": q, "k": k, "v": v}
    (y,) = program(feeds, q_num_heads=4, kv_num_heads=2)(feeds)

    def apart(x: np.ndarray, heads: int) -> np.ndarray:
        return x.reshape(2, x.shape[1], heads, 8).transpose(0, 2, 1, 3)

    wanted = attention(apart(q, 4), apart(k, 2), apart(v, 2)).transpose(0, 2, 1, 3).reshape(2, 5, 32)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("keys", "size"), [(3100, 8), (2000, 2048)])
def test_more_than_a_workgroup_remembers_is_written_out(keys: int, size: int) -> None:
    q, k, v = floats(1, 1, 2, size, seed=1), floats(1, 1, keys, size, seed=2), floats(1, 1, keys, 8, seed=3)
    feeds = {"q": q, "k": k, "v": v}
    found = program(feeds)
    np.testing.assert_allclose(found(feeds)[0], attention(q, k, v), rtol=1e-4, atol=1e-5)
    assert len(found.loaded(feeds).plan.dispatches) > 1
