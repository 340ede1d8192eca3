"""Every rule keeps its word: both sides of each example agree, and each refusal is refused for its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.run import Program
from tamago.compiler.facts import Array
from tests.rule_cases import Case, apply, cases, model_of, random, rules

SEEDS = range(3)
SPECIAL = (0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-30, -1e-30, 0.5, 3e38, -3e38, 2.0, 1e-7)
EPSILON: dict[np.dtype[Any], float] = {
    np.dtype(np.float64): 2.0**-52,
    np.dtype(np.float32): 2.0**-23,
    np.dtype(np.float16): 2.0**-10,
}
ROUNDING = 64  # units in the last place of the largest value: what reassociating a small example may cost


def feeds_of(model: ir.Model) -> Iterator[tuple[str, dict[str, Array]]]:
    """Random, small-integer and special inputs."""
    for seed in SEEDS:
        yield "random", _feeds(model, np.random.default_rng(seed), _random)
    yield "integer", _feeds(model, np.random.default_rng(7), _integers)
    yield "special", _feeds(model, np.random.default_rng(8), _special)


def _feeds(model: ir.Model, generator: np.random.Generator, make: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        assert value.dtype is not None
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        found[value.name or ""] = make(shape, value.dtype.numpy(), generator)
    return found


def _random(shape: list[int], dtype: np.dtype[Any], generator: np.random.Generator) -> Array:
    return random(shape, dtype, generator)


def _integers(shape: list[int], dtype: np.dtype[Any], generator: np.random.Generator) -> Array:
    return generator.integers(0 if dtype.kind in "ub" else -3, 4, shape).astype(dtype)


def _special(shape: list[int], dtype: np.dtype[Any], generator: np.random.Generator) -> Array:
    if dtype.kind in "iub":
        return random(shape, dtype, generator)
    with np.errstate(all="ignore"):
        return generator.choice(np.asarray(SPECIAL), shape).astype(dtype)


@pytest.mark.parametrize("case", list(cases("examples")), ids=str)
def test_both_sides_agree(case: Case) -> None:
    model = model_of(case)

    changed, report = apply(case, model)

    assert report.applied[case.rule.name] >= 1, f"the example does not match: refused {dict(report.refused)}"
    before, after = Program(model, 1, optimise=False), Program(changed, 1, optimise=False)
    for kind, feeds in feeds_of(model):
        if kind == "special" and case.rule.drift != "none":
            continue
        for wanted, found in zip(before(feeds), after(feeds), strict=True):
            _check(case, kind, wanted, found)


def _check(case: Case, kind: str, wanted: Array, found: Array) -> None:
    assert wanted.shape == found.shape
    assert wanted.dtype == found.dtype
    if case.rule.drift == "none":
        assert np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"), kind
        return
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    allowed = ROUNDING * EPSILON.get(wanted.dtype, 2.0**-7) * max(scale, 1e-3)
    assert np.allclose(a, b, rtol=0, atol=allowed, equal_nan=True), kind


@pytest.mark.parametrize("case", list(cases("refusals")), ids=str)
def test_refuses_for_its_reason(case: Case) -> None:
    _, report = apply(case, model_of(case))

    assert report.applied[case.rule.name] == 0
    because = case.example.get("because")
    reasons = [reason for _, reason in report.refused]
    if because is not None:
        assert any(because in reason for reason in reasons), reasons


def test_every_rule_has_an_example_and_a_unique_name() -> None:
    names = [rule.name for rule in rules()]

    assert len(names) == len(set(names))
    assert [rule.name for rule in rules() if not rule.examples] == []
