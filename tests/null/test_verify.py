"""Inputs that are made up to verify on: of several sizes, and of a size that a machine holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.errors import TamagoError
from tamago.compiler.verify import LARGEST_MADE_UP, Difference, compare, require, trials


def graph_of(*shapes: Sequence[int | str]) -> ir.Graph:
    inputs = [
        ir.Value(name=f"x{i}", shape=ir.Shape(s), type=ir.TensorType(ir.DataType.FLOAT)) for i, s in enumerate(shapes)
    ]
    return ir.Graph(inputs, [], nodes=[])


def sizes(graph: ir.Graph) -> list[int]:
    return [sum(np.size(array) for array in feeds.values()) for feeds in trials(graph)]


def test_a_sound_of_free_length_is_tried_long() -> None:
    assert max(sizes(graph_of(["batch", "time"]))) == 16000


def test_a_picture_of_free_height_and_width_is_not_tried_with_that_length_twice() -> None:
    """16,000 by 16,000 pixels took 21 GB where the model refused everything smaller, and the machine had no more."""
    found = sizes(graph_of(["batch", 3, "height", "width"]))

    assert max(found) == 3 * 1024 * 1024
    assert len(found) > 3


def test_several_inputs_count_together() -> None:
    assert max(sizes(graph_of(*[["batch", 3, "height", "width"]] * 4))) <= LARGEST_MADE_UP


def test_a_size_that_the_model_fixes_is_tried_whatever_it_is() -> None:
    assert sizes(graph_of([1, LARGEST_MADE_UP + 1])) == [LARGEST_MADE_UP + 1]


@pytest.mark.parametrize(
    ("wanted", "found", "passed"),
    [((0,), (0, 3, 4), True), ((0, 3, 4), (0,), False), ((0,), (3, 0), False), ((0, 3), (0, 4), False)],
    ids=["no turns", "a rank lost", "another axis", "another size"],
)
def test_what_a_loop_of_no_turns_stacked_may_have_the_rank_that_was_not_known(
    wanted: tuple[int, ...], found: tuple[int, ...], passed: bool
) -> None:
    """ONNX Runtime knows the shape of a loop's results only in the model whose shapes were inferred."""
    results = [np.zeros(wanted, np.float32)], [np.zeros(found, np.float32)]
    (difference,) = compare(["y"], *results, stacked=["y"])
    (of_no_loop,) = compare(["y"], *results)

    assert difference.passed == passed
    assert not of_no_loop.passed


def test_what_differs_comes_with_something_that_was_not_tried_yet() -> None:
    """A compilation has tried bit-identical rules by itself before anybody reads this."""
    differs = [Difference("y", 0.5, 1e-3)]

    with pytest.raises(TamagoError) as error:
        require(differs)
    assert "drift" not in error.value.todo
    assert "target" not in error.value.todo

    with pytest.raises(TamagoError) as error:
        require(differs, elsewhere="cpu")
    assert 'target "cpu"' in error.value.todo
    assert require([Difference("y", 1e-4, 1e-3)]) == 1e-4
