"""What a program computes inside: values as a whole run has them, and None where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.errors import TamagoError
from tamago.compiler.facts import Array
from tamago.compiler.observe import Observer

TEXT = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N, 4] x, bool yes) => (float[N, 4] y, float[N, 4] z)
<float[4] b = {1, 2, 3, 4}>
{
    [first] a = Add (x, b)
    [size] shape = Shape (a)
    [second] y = Relu (a)
    [branch] z = If (yes) <
        then_branch = t () => (float[N, 4] inner) { inner = Neg (a) },
        else_branch = e () => (float[N, 4] other) { other = Abs (a) }
    >
    [list] parts = SplitToSequence <axis = 0> (a)
}"""
X = np.asarray([[-2, -2, -2, -2], [0, 1, 2, 3], [5, 5, 5, 5]], np.float32)
FEEDS: dict[str, Array] = {"x": X, "yes": np.asarray(True)}
BIAS = np.asarray([1, 2, 3, 4], np.float32)
LOWER = OnnxRuntime(threads=1).lower


def model() -> ir.Model:
    return ir.from_onnx_text(TEXT)


def value(model: ir.Model, name: str) -> ir.Value:
    """A value of the main graph, or of a body."""
    inner = [v for node in model.graph.all_nodes() for v in node.outputs]
    return next(v for v in (*model.graph.inputs, *model.graph.initializers.values(), *inner) if v.name == name)


def seen(model: ir.Model, *names: str, feeds: Mapping[str, Array] = FEEDS, lower: Any = LOWER) -> Any:
    return Observer(model, feeds, lower)([value(model, n) for n in names])


def test_values_inside_are_those_of_a_run() -> None:
    found = seen(model(), "a", "shape", "y")

    assert set(found) == {"a", "shape", "y"}
    np.testing.assert_array_equal(found["a"], X + BIAS)
    np.testing.assert_array_equal(found["shape"], [3, 4])
    np.testing.assert_array_equal(found["y"], np.maximum(X + BIAS, 0))


def test_values_come_under_their_own_names_in_any_order() -> None:
    found = seen(model(), "y", "x", "a")

    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], np.maximum(found["a"], 0))


def test_sizes_are_those_of_the_feeds() -> None:
    assert list(seen(model(), "shape", feeds={**FEEDS, "x": X[:1]})["shape"]) == [1, 4]


def test_inputs_alone_need_no_run() -> None:
    def never(model: ir.Model) -> Any:
        raise AssertionError("nothing had to be run")

    assert seen(model(), "x", lower=never)["x"] is X
    assert seen(model(), lower=never) == {}


def test_only_what_the_values_need_is_run() -> None:
    ran: list[ir.Model] = []

    def lower(part: ir.Model) -> Any:
        ran.append(part)
        return LOWER(part)

    assert seen(model(), "shape", lower=lower) is not None
    assert [n.name for n in ran[0].graph] == ["first", "size"]


def test_the_model_is_as_it_was() -> None:
    watched = model()
    before = ir.to_proto(watched).SerializeToString()

    assert seen(watched, "a", "shape") is not None

    assert ir.to_proto(watched).SerializeToString() == before


def test_a_branch_taken_is_seen_from_outside() -> None:
    np.testing.assert_array_equal(seen(model(), "z")["z"], -(X + BIAS))


@pytest.mark.parametrize("name", ["inner", "other"])
def test_values_of_a_body_are_not_seen(name: str) -> None:
    assert seen(model(), name) is None
    assert seen(model(), "a", name) is None


def test_a_list_is_no_tensor() -> None:
    assert seen(model(), "parts") is None


def test_a_run_that_fails_shows_nothing() -> None:
    assert seen(model(), "a", feeds={"x": np.zeros((2, 5), np.float32), "yes": np.asarray(True)}) is None
    assert seen(model(), "a", feeds={}) is None


def test_a_model_that_does_not_load_shows_nothing() -> None:
    def refuse(model: ir.Model) -> Any:
        raise TamagoError("B001", "no")

    assert seen(model(), "a", lower=refuse) is None


def test_other_failures_are_not_hidden() -> None:
    def broken(model: ir.Model) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        seen(model(), "a", lower=broken)
