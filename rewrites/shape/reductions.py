"""The operators that reduce along axes given as their second input."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...compiler.rule import Drift

# Every reduction, with the drift of reducing in another order.
REDUCTIONS: Mapping[str, Drift] = MappingProxyType(
    {
        "ReduceL1": "rounding",
        "ReduceL2": "rounding",
        "ReduceLogSum": "rounding",
        "ReduceLogSumExp": "rounding",
        "ReduceMax": "none",
        "ReduceMean": "rounding",
        "ReduceMin": "none",
        "ReduceProd": "rounding",
        "ReduceSum": "rounding",
        "ReduceSumSquare": "rounding",
    }
)

# Those that return a single element as it is.
IDEMPOTENT = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")

# Those that reduce twice as they reduce at once.
ASSOCIATIVE = (*IDEMPOTENT, "ReduceL1", "ReduceL2", "ReduceLogSumExp")
