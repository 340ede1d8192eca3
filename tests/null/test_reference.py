"""The original's outputs on samples are computed once, as long as they do not take too much memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tamago.compiler.approximate import reference
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.reference import Reference
from tamago.compiler.facts import Array


class Doubles:
    """A program that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        self.runs += 1
        return [np.multiply(feeds["x"], 2)]


def groups() -> list[list[Sample]]:
    """Two samples together, and one alone."""
    samples = [Sample({"x": np.full((1, 3), i, np.float32)}, None) for i in range(3)]
    return [samples[:2], samples[2:]]


def test_what_was_computed_once_is_kept() -> None:
    program, asked = Doubles(), groups()
    original = Reference(program)

    first, second = list(original.outputs(asked)), list(original.outputs(asked[::-1]))[::-1]

    assert program.runs == 2
    assert [[o[0].tolist() for o in group] for group in first] == [[[[0] * 3], [[2] * 3]], [[[4] * 3]]]
    np.testing.assert_array_equal([o for g in first for o in g], [o for g in second for o in g])


def test_other_samples_and_other_batches_are_run() -> None:
    program, asked = Doubles(), groups()
    original = Reference(program)

    list(original.outputs(asked))
    list(original.outputs([asked[0][:1]]))
    list(original.outputs(groups()))

    assert program.runs == 5


def test_what_takes_too_much_memory_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "MOST_KEPT", 30)  # bytes: the first group has 24
    program, asked = Doubles(), groups()
    original = Reference(program)

    for _ in range(2):
        assert len(list(original.outputs(asked))) == 2

    assert program.runs == 3
