"""Causal masks, however they were come by: comparisons of index arrays that say "the column is at most the row".

Exporters build them out of dozens of nodes that no constant folding sees through where sizes are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from .index_arrays import ARRAYS, Affine, Causal, Follow, Known, Step, combined, components, constant, is_exact
from .ir import CAUSAL, attribute_values, dims, op_name

FAR = -1e8  # from here down a hidden score weighs exactly 0 beside any that is not hidden and not as far off itself


def mark_causal_masks(graph: ir.Graph) -> None:
    """Leave the word in the `meta` of every value that is one, for `ir.fact_of`; shapes are inferred."""
    known: dict[ir.Value, Known] = {}
    for node in graph:
        found = _follow(node, known)
        for value in node.outputs:
            value.meta.pop(CAUSAL, None)
        if found is None:
            continue
        known[node.outputs[0]] = found
        if isinstance(found, Causal) and _is_mask(found, node.outputs[0]):
            node.outputs[0].meta[CAUSAL] = True


def is_causal(value: ir.Value) -> bool:
    """Whether a value was marked."""
    return bool(value.meta.get(CAUSAL))


def _is_mask(found: Causal, value: ir.Value) -> bool:
    sizes = dims(value)
    square = sizes is not None and len(sizes) > 1 and sizes[-1] is not None and sizes[-1] == sizes[-2]
    return square and not found.inverted and (found.added or value.dtype == ir.DataType.BOOL)


def _follow(node: ir.Node, known: dict[ir.Value, Known]) -> Known | None:
    follow = _FOLLOW.get(op_name(node))
    sizes = dims(node.outputs[0]) if len(node.outputs) == 1 else None
    if follow is None or sizes is None:
        return None
    step = Step(node, [None if v is None else known.get(v) or constant(v) for v in node.inputs], sizes)
    if op_name(node) == "GatherND":
        step.indices = components(node.inputs[1], known)
    found = follow(step)
    if isinstance(found, Affine) and not (found.is_constant or is_exact(found, node.outputs[0].dtype)):
        return None
    if isinstance(found, Affine):  # an axis of one element has no second one to differ from it
        return replace(found, strides=tuple(0.0 if d == 1 else s for d, s in zip(sizes, found.strides, strict=True)))
    return found


def _comparison(*, first_at_most: bool, strict: bool) -> Follow:
    """Of whole numbers: a ≤ b or a ≥ b; strict: one more, a < b is a + 1 ≤ b."""

    def follow(step: Step) -> Known | None:
        both = step.every()
        if both is None:
            return None
        low, high = both if first_at_most else both[::-1]
        return _at_most_zero(combined(low, high, -1), 1.0 if strict else 0.0)

    return follow


def _at_most_zero(difference: Affine, more: float) -> Known | None:
    offset, strides = difference.offset + more, difference.strides
    if not all(float(x).is_integer() for x in (offset, *strides)):
        return None
    if difference.is_constant:
        return Affine(float(offset <= 0), strides)
    if len(strides) < 2 or any(strides[:-2]) or strides[-1] != -strides[-2]:
        return None
    step = abs(strides[-1])
    if strides[-1] > 0:  # step·(column − row) ≤ −offset: up to the diagonal and no further
        return Causal() if 0 <= -offset < step else None
    return Causal(inverted=True) if 0 < offset <= step else None  # step·(column − row) ≥ offset


def _equal(step: Step) -> Affine | None:
    both = step.every()
    if both is None:
        return None
    difference = combined(both[0], both[1], -1)
    return Affine(float(difference.offset == 0), difference.strides) if difference.is_constant else None


def _not(step: Step) -> Known | None:
    found = step.given[0]
    if isinstance(found, Causal):
        return replace(found, inverted=not found.inverted)
    return None if found is None or not found.is_constant else Affine(float(not found.offset), found.strides)


def _logic(*, every: bool) -> Follow:
    """And, or Or: what decides nothing leaves the other as it is."""

    def follow(step: Step) -> Known | None:
        masks = [step.mask(i) for i, f in enumerate(step.given) if isinstance(f, Causal)]
        others = [step.broadcast(i) for i, f in enumerate(step.given) if not isinstance(f, Causal)]
        if any(f is None or not f.is_constant for f in others):
            return None
        known = [bool(f.offset) for f in others if f is not None]
        if not masks:
            return Affine(float(all(known) if every else any(known)), (0.0,) * len(step.sizes))
        return masks[0] if len(set(masks)) == 1 and all(k == every for k in known) else None

    return follow


def _where(step: Step) -> Known | None:
    decided, condition = step.affine(0), step.mask(0)
    if decided is not None and decided.is_constant:
        return step.broadcast(1 if decided.offset else 2)
    if condition is None:
        return None
    seen, hidden = (step.broadcast(i) for i in ((2, 1) if condition.inverted else (1, 2)))
    if seen is None or hidden is None or not (seen.is_constant and hidden.is_constant):
        return None
    return Causal(added=True) if seen.offset == 0 and hidden.offset <= FAR else None


def _trilu(step: Step) -> Known | None:
    """A triangle of an array of one number."""
    found, numbers = step.affine(0), step.numbers(1) if step.operand(1) is not None else (0,)
    if found is None or not found.is_constant or numbers is None:
        return None
    upper, k = bool(attribute_values(step.node).get("upper", 1)), numbers[0]
    if found.offset == 1 and (upper, k) in ((False, 0), (True, 1)):
        return Causal(inverted=upper)
    return Causal(added=True) if found.offset <= FAR and (upper, k) == (True, 1) else None


_CONDITIONS: Mapping[str, Follow] = {
    "LessOrEqual": _comparison(first_at_most=True, strict=False),
    "Less": _comparison(first_at_most=True, strict=True),
    "GreaterOrEqual": _comparison(first_at_most=False, strict=False),
    "Greater": _comparison(first_at_most=False, strict=True),
    "Equal": _equal,
    "Not": _not,
    "And": _logic(every=True),
    "Or": _logic(every=False),
    "Where": _where,
    "Trilu": _trilu,
}
_FOLLOW = {**ARRAYS, **_CONDITIONS}
