"""What was done and why: the figures before and after, the rules that fired and those that refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .ir import graphs, op_name

if TYPE_CHECKING:
    from .optimise import Outcome


@dataclass(frozen=True)
class Figures:
    """Size of a model: nodes by operator (bodies included), parameters, bytes of weights."""

    operators: dict[str, int]
    parameters: int
    bytes: int

    @classmethod
    def of(cls, model: ir.Model) -> Figures:
        counts = Counter(op_name(n) for g in graphs(model.graph) for n in g)
        tensors = [v.const_value for g in graphs(model.graph) for v in g.initializers.values() if v.const_value is not None]
        return cls(dict(sorted(counts.items())), sum(t.size for t in tensors), sum(t.nbytes for t in tensors))

    @property
    def nodes(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True)
class Comparison:
    """Interleaved wall milliseconds of original and result, and how many times faster the result is (95 % interval)."""

    before: float
    before_spread: float
    after: float
    after_spread: float
    ratio: float
    low: float
    high: float


@dataclass
class Report:
    """One compilation, for people (`str`, `explain`) and for programs (`to_dict`)."""

    before: Figures
    after: Figures
    outcome: Outcome
    notes: list[str]
    error: float
    errors: dict[str, float]
    timing: Comparison | None
    verdict: str
    seconds: float
    environment: str
    options: Any
    stages: dict[str, float] = field(default_factory=dict[str, float])
