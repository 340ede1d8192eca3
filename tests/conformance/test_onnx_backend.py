"""What ONNX Runtime passes with the file as it is, it passes with what tamago makes of it: 0 broken.

`expected.toml` lists cases known to break, each with its reason. It may only shrink: a case listed there that passes is
a failure too.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import onnx
import pytest

from tests.conformance import suite

CHUNKS = 24
EXPECTED: dict[str, str] = tomllib.loads(Path(__file__).with_name("expected.toml").read_text())["broken"]


def broken(case: suite.Case) -> str | None:
    """Why the optimised model does not pass, None if it does."""
    original = onnx.ModelProto()
    original.CopyFrom(case.load()[0])
    try:
        optimised = suite.optimised(original)
    except Exception as error:
        return f"optimize raised {type(error).__name__}: {error}"
    return suite.verdict(optimised, case)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(CHUNKS))
def test_nothing_breaks(index: int) -> None:
    found: dict[str, str] = {}
    for case in suite.chunk(index, CHUNKS):
        if suite.passes(case, optimise=True):
            reason = broken(case)
            found.update({case.name: reason} if reason is not None else {})

    expected = {case.name for case in suite.chunk(index, CHUNKS)} & set(EXPECTED)
    assert {name: why for name, why in found.items() if name not in expected} == {}
    assert expected <= set(found), "these pass now: take them out of expected.toml"


def test_the_baseline_is_the_suite_that_onnx_runtime_passes() -> None:
    """The same cases pass with ONNX Runtime's own optimiser on and off."""
    names = suite.baseline()

    assert names == suite.baseline(optimise=False)
    assert len(names) >= 1700
    assert set(EXPECTED) <= names
