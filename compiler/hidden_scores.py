"""Which scores a mask hides from a softmax, as far as that changes how long the softmax takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from .evaluate import CannotEvaluate
from .facts import Array, Constant, Fact

LOW = -80.0  # from here down e^x is no normal number of single precision, and arithmetic on it may be slow
LARGEST_MASK = 1 << 24  # elements that are looked through
_PASSING = frozenset(["Add", "Where", "Cast", "Reshape", "Unsqueeze", "Expand"])


def hides(fact: Fact) -> bool:
    """Whether a value is a mask that is added to scores, a number that stands for hidden ones, or scores under one."""
    if fact.hidden or (fact.causal and _is_floating(fact)):
        return True
    return fact.constant is not None and _is_floating(fact) and _holds_low(fact, fact.constant)


def with_hidden(op: str, operands: Sequence[Fact | None], result: Fact) -> Fact:
    """The fact of an operator's result, hidden scores among its operands told on."""
    if op not in _PASSING or result.constant is not None or not _is_floating(result):
        return result
    return replace(result, hidden=True) if any(f is not None and hides(f) for f in operands) else result


def hide(scores: Array) -> Array:
    """Typical scores with those above the diagonal hidden: half of them, and no row entirely."""
    if scores.ndim < 2 or min(scores.shape[-2:]) < 2:
        return scores
    above = np.triu(np.ones(scores.shape[-2:], np.bool_), 1)
    return np.where(above, np.asarray(-np.inf, scores.dtype), scores)


def _is_floating(fact: Fact) -> bool:
    return fact.dtype is not None and ir.DataType(fact.dtype).is_floating_point()


def _holds_low(fact: Fact, constant: Constant) -> bool:
    if fact.size is None or not 0 < fact.size <= LARGEST_MASK:
        return False
    try:
        return constant.least <= LOW
    except CannotEvaluate:
        return False
