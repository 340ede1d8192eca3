"""Sizes are computed once where they are known to be the same, and only there."""

from __future__ import annotations

from collections import Counter

import onnx
import onnx_ir as ir
import pytest

from tamago.compiler.fold import remove_unused
from tamago.compiler.inference import infer
from tamago.compiler.shared_sizes import share_sizes


def shared(text: str) -> Counter[str]:
    model = ir.serde.deserialize_model(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}'))
    infer(model)
    share_sizes(model.graph)
    remove_unused(model.graph)
    onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)
    return Counter(node.op_type for node in model.graph)


def test_a_size_of_one_name_is_asked_for_once() -> None:
    found = shared("""
        g (float[B, 4, L] x) => (float[B, M] a, float[B, M] b) <int64[1] rest = {-1}> {
            y = Relu(x)
            s = Shape<start: int = 0, end: int = 1>(x)
            t = Shape<start: int = 0, end: int = 1>(y)
            p = Concat<axis: int = 0>(s, rest)
            q = Concat<axis: int = 0>(t, rest)
            a = Reshape(x, p)
            b = Reshape(y, q)
        }
    """)

    assert found == {"Relu": 1, "Shape": 1, "Concat": 1, "Reshape": 2}


@pytest.mark.parametrize("other", ["C", "?"])
def test_of_two_names_each_is_asked_for(other: str) -> None:
    found = shared(
        f"""
        g (float[B] x, float[{other}] y) => (int64[1] a, int64[1] b) <int64[1] one = {{1}}> {{
            s = Shape(x)
            t = Shape(y)
            a = Add(s, one)
            b = Add(t, one)
        }}
    """.replace('"?"', "")
    )

    assert found["Shape"] == 2


def test_a_number_and_a_vector_of_it_are_two_things() -> None:
    found = shared("""
        g (float[B, 4] x) => (int64 a, int64[1] b) <int64 zero = {0}, int64[1] zeros = {0}> {
            s = Shape(x)
            p = Gather(s, zero)
            q = Gather(s, zeros)
            a = Neg(p)
            b = Neg(q)
        }
    """)

    assert found["Gather"] == 2


def test_what_the_model_returns_keeps_its_name() -> None:
    found = shared("""
        g (float[B] x) => (int64[1] a, int64[1] b) {
            y = Relu(x)
            a = Shape(x)
            b = Shape(y)
        }
    """)

    assert found == {"Relu": 1, "Shape": 2}
