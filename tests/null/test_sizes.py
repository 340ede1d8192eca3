"""Free dimensions get the sizes of the caller's inputs, products and sums of names included."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamago.compiler.facts import Constant, Dim, Fact
from tamago.compiler.sizes import bound, sizes_of

GRAPH = ir.from_onnx_text(
    """<ir_version: 10, opset_import: ["" : 23]>
    g (float[N, T, 8] x, int64[N, T] ids, float[P] past) => (float[N, T, 8] y) { y = Identity (x) }"""
).graph


def fact(*shape: Dim) -> Fact:
    return Fact(int(ir.DataType.FLOAT), shape)


def test_sizes_come_from_the_inputs() -> None:
    feeds = {"x": np.zeros((2, 5, 8), np.float32), "past": np.zeros(7, np.float32)}

    assert sizes_of(GRAPH, feeds) == {"N": 2, "T": 5, "P": 7}


def test_inputs_that_are_not_given_say_nothing() -> None:
    assert sizes_of(GRAPH, {"ids": np.zeros((3, 4), np.int64)}) == {"N": 3, "T": 4}
    assert sizes_of(GRAPH, {"other": np.zeros((3, 4))}) == {}
    assert sizes_of(GRAPH, None) == {}


def test_the_tensors_of_a_sequence_need_not_agree() -> None:
    sequence = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (seq(float[N, 8]) xs, float[T] y) => (float[M, 8] z) { z = ConcatFromSequence <axis = 0> (xs) }"""
    ).graph
    feeds: dict[str, Any] = {
        "xs": [np.zeros((2, 8), np.float32), np.zeros((3, 8), np.float32)],
        "y": np.zeros(4, np.float32),
    }

    assert sizes_of(sequence, feeds) == {"T": 4}


def test_an_input_of_unknown_rank_says_nothing() -> None:
    graph = ir.Graph([ir.Value(name="x")], [], nodes=[], name="g")

    assert sizes_of(graph, {"x": np.zeros((3, 4))}) == {}


def test_a_nameless_dimension_has_no_size_to_give() -> None:
    graph = ir.Graph([ir.Value(name="x", shape=ir.Shape([None, 4]))], [], nodes=[], name="g")

    assert sizes_of(graph, {"x": np.zeros((3, 4))}) == {}


def test_an_empty_input_has_a_size_too() -> None:
    assert sizes_of(GRAPH, {"past": np.zeros(0, np.float32)}) == {"P": 0}


def test_names_become_numbers() -> None:
    assert bound(fact("N", "T", 8), {"N": 2, "T": 5}).shape == (2, 5, 8)


@pytest.mark.parametrize(
    ("dim", "size"), [("N*T", 10), ("2*N", 4), ("N + T", 7), ("N + T*4 - 1", 21), ("(N + 1)*T", 15), ("floor(T/2)", 2)]
)
def test_products_and_sums_become_numbers(dim: str, size: int) -> None:
    assert bound(fact(dim, 8), {"N": 2, "T": 5}).shape == (size, 8)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 9), st.integers(0, 9))
def test_an_expression_is_what_it_says(n: int, t: int, factor: int, term: int) -> None:
    assert bound(fact(f"{factor}*N + T + {term}"), {"N": n, "T": t}).shape == (factor * n + t + term,)


@pytest.mark.parametrize("dim", ["M", "N*M", "N/0", "what is this", "", None])
def test_what_is_not_determined_stays(dim: Dim) -> None:
    assert bound(fact(dim, "N"), {"N": 2}).shape == (dim, 2)


def test_what_is_known_is_the_same_fact() -> None:
    whole, unranked = fact(2, 3), Fact(int(ir.DataType.FLOAT), None)

    assert bound(whole, {"N": 2}) is whole
    assert bound(unranked, {"N": 2}) is unranked
    free = fact("N")
    assert bound(free, {}) is free


def test_type_and_contents_are_kept() -> None:
    constant = Constant.of(np.zeros((2, 8), np.float32))

    found = bound(Fact(int(ir.DataType.FLOAT), ("N", 8), constant), {"N": 2})

    assert found == fact(2, 8)
    assert found.constant is constant
