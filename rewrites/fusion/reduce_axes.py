"""A reduction's axes counted from the front and rising, so that equal reductions are equal terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.rule import Pattern, Rule, Skip, Term, Value, op, rule, var
from .normalisation import reduced_axes

x, axes, attributes = var("x axes attributes")

EXAMPLE = {"x": "f32[2,3,4]", "axes": "i64[1] = -1", "attributes": {"noop_with_empty_axes": 1}}
REFUSE = [
    {"x": "f32[2,3,4]", "axes": "i64[2] = 0 2", "attributes": {}, "because": "already"},
    {"x": "f32[2,3,4]", "axes": "i64[0] = 0", "attributes": {"noop_with_empty_axes": 1}, "because": "no axes"},
]
SHARED: dict[str, Any] = {"drift": "none", "phase": "canonicalise", "example": EXAMPLE, "refuse": REFUSE}


def _pattern(name: str) -> Pattern:
    return op(name)(x, axes, attributes=attributes)


def _canonical(name: str, x: Value, axes: Value, attributes: Mapping[str, Any]) -> Term:
    over = reduced_axes(x, axes)
    kept = {k: v for k, v in attributes.items() if k != "noop_with_empty_axes"}
    if axes.array.reshape(-1).tolist() == list(over) and kept == attributes:
        raise Skip("the axes are already counted from the front")
    return op(name)(x, np.asarray(over, dtype=np.int64), **kept)


@rule(_pattern("ReduceMean"), **SHARED)
def mean_axes(x: Value, axes: Value, attributes: Mapping[str, Any]) -> Term:
    """ReduceMean(x, axes below 0) = ReduceMean(x, axes + rank)."""
    return _canonical("ReduceMean", x, axes, attributes)


@rule(_pattern("ReduceSum"), **SHARED)
def sum_axes(x: Value, axes: Value, attributes: Mapping[str, Any]) -> Term:
    """ReduceSum(x, axes below 0) = ReduceSum(x, axes + rank)."""
    return _canonical("ReduceSum", x, axes, attributes)


@rule(_pattern("ReduceMax"), **SHARED)
def max_axes(x: Value, axes: Value, attributes: Mapping[str, Any]) -> Term:
    """ReduceMax(x, axes below 0) = ReduceMax(x, axes + rank)."""
    return _canonical("ReduceMax", x, axes, attributes)


RULES: tuple[Rule, ...] = (mean_axes, sum_axes, max_axes)
