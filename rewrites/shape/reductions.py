"""The operators that reduce along axes given as their second input."""

from __future__ import annotations

from ...compiler.rule import Drift

# Reducing in another order rounds differently. A maximum does not round, but ONNX leaves open what it is of a NaN, and
# ONNX Runtime's answer depends on where the NaN stands: no reduction is bit-identical in another order.
REORDERED: Drift = "rounding"

REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)

# Those that return a single element as it is.
IDEMPOTENT = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")

# Those that reduce twice as they reduce at once.
ASSOCIATIVE = (*IDEMPOTENT, "ReduceL1", "ReduceL2", "ReduceLogSumExp")
