"""What two nodes compute alike is computed once: one operator on the same values, or on small equal constants."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.compiler.facts import Array
from tamago.compiler.fold import merge_twins
from tamago.compiler.inference import infer


def merged(body: str, constants: dict[str, Array], results: str = "float[B, 4] y, float[B, 4] z") -> list[str]:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[B, 4] x) => ({results}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    model = ir.serde.deserialize_model(proto)
    infer(model)
    merge_twins(model.graph)
    onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)
    return [node.op_type for node in model.graph]


BODY = "p = Mul (x, a)  q = Mul (x, b)  y = Neg (p)  z = Abs (q)"


def test_equal_small_constants_are_one() -> None:
    constants: dict[str, Array] = {"a": np.full(4, 2.5, np.float32), "b": np.full(4, 2.5, np.float32)}

    assert merged(BODY, constants) == ["Mul", "Neg", "Abs"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([2, 2, 2, 2], [2, 2, 2, 3]),
        ([0.0], [-0.0]),
        (2, [2]),
    ],
    ids=["contents", "signs of zero", "shapes"],
)
def test_others_are_not(a: object, b: object) -> None:
    assert merged(BODY, {"a": np.asarray(a, np.float32), "b": np.asarray(b, np.float32)}) == [
        "Mul",
        "Mul",
        "Neg",
        "Abs",
    ]


def test_large_constants_are_not_looked_into() -> None:
    wide = np.ones((8, 4), np.float32)

    found = merged(BODY, {"a": wide, "b": wide.copy()}, "float[8, 4] y, float[8, 4] z")
    assert found == ["Mul", "Mul", "Neg", "Abs"]


def test_what_is_random_or_an_output_stays() -> None:
    random = "p = RandomUniformLike (x)  q = RandomUniformLike (x)  y = Neg (p)  z = Abs (q)"
    outputs = "y = Mul (x, a)  z = Mul (x, a)"

    assert merged(random, {}) == ["RandomUniformLike", "RandomUniformLike", "Neg", "Abs"]
    assert merged(outputs, {"a": np.asarray([1, 2, 3, 4], np.float32)}) == ["Mul", "Mul"]
