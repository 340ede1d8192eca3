"""A reduction whose lost axes are put back keeps them instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.facts import Shape
from ...compiler.rule import Pattern, Rule, Skip, Term, Value, op, rule, var
from .normalisation import reduced_axes

x, axes, back, attributes = var("x axes back attributes")

PEERS = "onnxslim, onnxoptimizer fuse_consecutive_reduce_unsqueeze"
EXAMPLES = [
    {"x": "f32[2,3,4]", "axes": "i64[1] = -1", "back": "i64[1] = 2", "attributes": {"keepdims": 0}, "pattern": 0},
    {"x": "f32[2,3,4]", "axes": "i64[2] = 2 0", "back": "i64[2] = 0 2", "attributes": {"keepdims": 0}, "pattern": 0},
    {"x": "f32[2,3,4]", "axes": "i64[1] = 1", "back": "i64[3] = 2 1 4", "attributes": {"keepdims": 0}, "pattern": 1},
    {"x": "f32[B,3]", "axes": "i64[1] = 1", "back": "i64[2] = -1 1", "attributes": {"keepdims": 0}, "pattern": 1},
]
REFUSE = [
    {
        "x": "f32[2,3,4]",
        "axes": "i64[1] = 1",
        "back": "i64[1] = 2",
        "attributes": {"keepdims": 0},
        "pattern": 0,
        "because": "elsewhere",
    },
    {
        "x": "f32[2,3,4]",
        "axes": "i64[1] = 1",
        "back": "i64[3] = 2 4 1",
        "attributes": {"keepdims": 0},
        "pattern": 1,
        "because": "another shape",
    },
    {
        "x": "f32[2,3,4]",
        "axes": "i64[1] = 1",
        "back": "i64[1] = 0",
        "attributes": {},
        "pattern": 0,
        "because": "keeps",
    },
]
SHARED: dict[str, Any] = {
    "drift": "none",
    "phase": "canonicalise",
    "peers": PEERS,
    "example": EXAMPLES,
    "refuse": REFUSE,
}


def _patterns(name: str) -> tuple[Pattern, ...]:
    reduced = op(name)(x, axes, attributes=attributes)
    return op.Unsqueeze(reduced, back), op.Reshape(reduced, back)


def _kept(name: str, x: Value, axes: Value, attributes: Mapping[str, Any], root: Value) -> Term:
    if attributes.get("keepdims", 1) != 0:
        raise Skip("the reduction keeps its axes")
    over = reduced_axes(x, axes)
    wanted = tuple(1 if a in over else d for a, d in enumerate(x.shape))
    if not _equal(root.shape, wanted):
        raise Skip("the lost axes are put back elsewhere, or the result has another shape")
    return op(name)(x, axes, **{k: v for k, v in attributes.items() if k != "keepdims"})


def _equal(found: Shape, wanted: Shape) -> bool:
    """Whether two shapes of equally many elements are equal: one dimension may be unknown, the others settle it."""
    if len(found) != len(wanted):
        return False
    pairs = list(zip(found, wanted, strict=True))
    open_ends = [(a, b) for a, b in pairs if a is None or a != b]
    if not open_ends:
        return True
    settled = all(isinstance(a, int) and a > 0 for a, b in pairs if (a, b) not in open_ends)
    return settled and len(open_ends) == 1 and not all(isinstance(d, int) for d in open_ends[0])


@rule(*_patterns("ReduceMean"), **SHARED)
def mean_keeps_axes(x: Value, axes: Value, attributes: Mapping[str, Any], root: Value) -> Term:
    """Unsqueeze(ReduceMean(x, axes, keepdims=0), axes) = ReduceMean(x, axes, keepdims=1)."""
    return _kept("ReduceMean", x, axes, attributes, root)


@rule(*_patterns("ReduceSum"), **SHARED)
def sum_keeps_axes(x: Value, axes: Value, attributes: Mapping[str, Any], root: Value) -> Term:
    """Unsqueeze(ReduceSum(x, axes, keepdims=0), axes) = ReduceSum(x, axes, keepdims=1)."""
    return _kept("ReduceSum", x, axes, attributes, root)


@rule(*_patterns("ReduceMax"), **SHARED)
def max_keeps_axes(x: Value, axes: Value, attributes: Mapping[str, Any], root: Value) -> Term:
    """Unsqueeze(ReduceMax(x, axes, keepdims=0), axes) = ReduceMax(x, axes, keepdims=1)."""
    return _kept("ReduceMax", x, axes, attributes, root)


RULES: tuple[Rule, ...] = (mean_keeps_axes, sum_keeps_axes, max_keeps_axes)
