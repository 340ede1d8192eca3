"""Is a program worth its error? Timed beside the original and the exact program before a proof is spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..files import file_bytes
from .budget import Workload
from .costs import Run, Target
from .stack import Program
from .task import WorkloadTime

TIMINGS = 2  # a loss is believed when it is measured twice
NO_SLOWER = 0.98  # of the original's speed is noise
FASTER = 0.98  # of another program's time: what error must buy at least, and what noise does not
SLOWER = "is smaller but slower"


@dataclass(frozen=True)
class Sides:
    """What every result is paired with, and what is minimised.

    Args:
        original: the model as it was given, as a program.
        exact: what exact rewriting made of it, as a program.
        target: where they run.
        workloads: what latency is judged on.
        size: bytes are minimised instead of milliseconds.
        bytes: of the file that is returned where nothing approximate is.
        latency: the most milliseconds over the workloads; None: any.
    """

    original: Program
    exact: Program
    target: Target
    workloads: Sequence[Workload]
    size: bool
    bytes: float
    latency: float | None

    def times(self, model: ir.Model, program: Program) -> list[WorkloadTime]:
        """Of a program on each workload, taken twice where the first time speaks against it; none without a clock."""
        if not self.target.timed:
            return []
        found: list[WorkloadTime] = []
        for _ in range(TIMINGS):
            found = [self._time(program, workload) for workload in self.workloads]
            if self.refuses(model, found) is None:
                break
        return found

    def refuses(self, model: ir.Model, times: Sequence[WorkloadTime]) -> str | None:
        """Why a program is not worth an error; None where it is."""
        taken = sum(t.weight * t.result for t in times)
        if self.latency is not None and taken > self.latency:
            return f"takes more than {self.latency:g} ms"
        if self.size and file_bytes(model) >= self.bytes:
            return "is not smaller than the exact one"
        if self.size:
            slow = [t for t in times if t.ratio < NO_SLOWER and t.high < 1.0]
            return f"{SLOWER}, {slow[0].ratio:.2f}x" if slow else None
        before = sum(t.weight * t.original for t in times)
        if taken >= FASTER * min(sum(t.weight * t.exact for t in times), before):
            return "is not clearly faster than the exact one"
        doubted = sum(t.weight * t.original / t.low for t in times) >= before  # at the low end of each interval
        return "may be no faster than the original, as far as the clock can tell" if doubted else None

    def _time(self, program: Program, workload: Workload) -> WorkloadTime:
        runs = [Run(p, workload.feeds) for p in (self.original, self.exact, program)]
        (before, plain, after), (ratio, low, high) = self.target.compare(runs)
        shapes = {name: np.shape(array) for name, array in workload.feeds.items() if hasattr(array, "shape")}
        return WorkloadTime(workload.weight, before, plain, after, ratio, low, high, shapes)
