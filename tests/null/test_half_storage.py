"""Weights that half precision holds to the last bit lie so in a file; what it does not hold stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.compiler.half_storage import (
    CHANGE,
    bytes_in_file,
    lies_in_half,
    round_weights_to_half,
    stored_in_half,
    weights_are_halves,
)

SIDE = 16
HALVES = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float16).astype(np.float32)


def model_of(weight: np.ndarray, operator: str = "MatMul", domain: str = "", *, second: bool = True) -> ir.Model:
    """An input and a weight, into one operator."""
    x, y = (ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([None, SIDE])) for n in "xy")
    tensor = ir.tensor(weight, name="w")
    w = ir.Value(name="w", const_value=tensor, shape=ir.Shape(weight.shape), type=ir.TensorType(tensor.dtype))
    node = ir.Node(domain, operator, [x, w] if second else [w, x], outputs=[y], name="node")
    opsets = {"": 23} | ({domain: 1} if domain else {})
    return ir.Model(ir.Graph([x], [y], nodes=[node], initializers=[w], opset_imports=opsets, name="g"), ir_version=10)


def weight_of(model: ir.Model) -> ir.Value:
    return model.graph.initializers["w"]


def test_what_half_holds_is_cast_from_there() -> None:
    model = model_of(HALVES)
    stored = stored_in_half(model)
    onnx.checker.check_model(ir.serde.serialize_model(stored), full_check=True)

    assert [node.op_type for node in stored.graph] == ["Cast", "MatMul"]
    (value,) = stored.graph.initializers.values()
    assert value.const_value is not None
    assert value.const_value.nbytes == bytes_in_file(weight_of(model)) == HALVES.nbytes // 2
    np.testing.assert_array_equal(value.const_value.numpy().astype(np.float32), HALVES)
    assert "w" in model.graph.initializers, "the model itself is not changed"


@pytest.mark.parametrize(("operator", "domain"), [("Gemm", ""), ("FusedMatMul", "com.microsoft")])
def test_whatever_multiplies_by_it_reads_it_from_half(operator: str, domain: str) -> None:
    model = model_of(HALVES, operator, domain)
    stored = stored_in_half(model)

    assert lies_in_half(weight_of(model))
    assert [node.op_type for node in stored.graph] == ["Cast", operator]


def special(number: float) -> np.ndarray:
    found = HALVES.copy()
    found[3, 4] = number
    return found


@pytest.mark.parametrize("number", [-0.0, np.inf, -np.inf, np.nan, 65504.0, 2.0**-24])
def test_special_numbers_that_half_has_are_held(number: float) -> None:
    assert lies_in_half(weight_of(model_of(special(number))))


@pytest.mark.parametrize("number", [0.1, 65536.0, 2.0**-26])
def test_one_number_that_half_lacks_is_enough(number: float) -> None:
    assert not lies_in_half(weight_of(model_of(special(number))))


@pytest.mark.parametrize(
    "model",
    [
        model_of(HALVES[:4, :4]),
        model_of(HALVES.reshape(-1), "Add"),
        model_of(HALVES, "Thing", "com.microsoft"),
        model_of(HALVES, "QuantizeLinear", second=False),
        model_of(HALVES.astype(np.float64)),
        model_of(HALVES.astype(np.float16)),
    ],
    ids=["small", "a vector", "another domain", "codes", "double", "half already"],
)
def test_what_stays(model: ir.Model) -> None:
    assert not lies_in_half(weight_of(model))
    assert bytes_in_file(weight_of(model)) == weight_of(model).const_value.nbytes  # type: ignore[union-attr]
    assert len(list(stored_in_half(model).graph)) == 1


def rounded(model: ir.Model) -> np.ndarray:
    round_weights_to_half(model.graph)
    tensor = weight_of(model).const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def test_a_weight_that_rewriting_made_is_rounded() -> None:
    weight = HALVES * np.float32(1.1)
    found = rounded(model_of(weight))

    assert float(np.abs(found - weight).max()) <= CHANGE * float(np.abs(weight).max())
    assert lies_in_half(weight_of(model_of(found)))


@pytest.mark.parametrize(
    "model",
    [
        model_of(HALVES * np.float32(1e5)),
        model_of(HALVES * np.float32(1e-7)),
        model_of(special(np.nan) * np.float32(1.1)),
        model_of(HALVES * np.float32(1.1), "Add"),
        model_of(HALVES * np.float32(1.1), second=False),
        model_of(HALVES[:4, :4] * np.float32(1.1)),
    ],
    ids=["too large", "too small", "no number", "no product", "the other operand", "little"],
)
def test_what_is_not_rounded(model: ir.Model) -> None:
    before = np.array(weight_of(model).const_value.numpy())  # type: ignore[union-attr]

    np.testing.assert_array_equal(rounded(model), before)


def test_weights_are_halves_where_no_large_one_is_single() -> None:
    assert weights_are_halves(model_of(HALVES.astype(np.float16)))
    assert not weights_are_halves(model_of(HALVES))
    assert not weights_are_halves(model_of(HALVES[:4, :4].astype(np.float16)))
