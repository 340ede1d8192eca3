"""Each of the optimisations that nobody ships together reaches the form a person would write by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tamago.backends.onnxruntime.run import Program
from tamago.compiler.facts import Array
from tamago.compiler.pipeline import compile_traced
from tamago.compiler.store import Store
from tamago.compiler.trace import Traced
from tests.cpu.misses import MISSES
from tests.cpu.misses.case import Miss, histogram

TOLERANCE = 2e-6  # of the largest value: a few units in the last place of float32


def difference(wanted: Array, found: Array) -> float:
    """The largest difference over the largest value."""
    assert wanted.shape == found.shape
    assert wanted.dtype == found.dtype
    return float(np.max(np.abs(np.subtract(wanted, found))) / np.max(np.abs(wanted)))


@pytest.fixture(scope="module", params=MISSES, ids=str)
def miss(request: pytest.FixtureRequest) -> Miss:
    return request.param


@pytest.fixture(scope="module")
def traced(miss: Miss) -> Traced:
    """Once for the tests of a miss; the compiler works on a copy."""
    return miss.traced()


def test_hand_form_computes_what_the_module_computes(miss: Miss, traced: Traced) -> None:
    exported, by_hand = traced.model, miss.by_hand()

    wanted = Program(exported, 1)(miss.feeds(exported))
    found = Program(by_hand, 1)(miss.feeds(by_hand))

    assert len(wanted) == len(found)
    assert max(map(difference, wanted, found)) < TOLERANCE


def test_compiled_program_has_the_hand_form(miss: Miss, traced: Traced) -> None:
    feeds = miss.feeds(traced.model)

    # Without measuring the choice is the same on every machine, however busy; `tests/benchmarks/misses.py` measures.
    with Store.open(":memory:") as store:
        compiled = compile_traced(traced, feeds, measure=False, strict=True, store=store, threads=1)

    wanted, found = Program(traced.model, 1)(feeds), compiled.program(feeds)
    assert max(map(difference, wanted, found)) < TOLERANCE
    operators = histogram(compiled.model)
    assert {op: operators[op] for op in miss.present} == dict(miss.present), operators
    assert not operators.keys() & miss.gone, operators
