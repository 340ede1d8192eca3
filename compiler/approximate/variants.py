"""Whole programs that structures made: measured where choices are made, given tables where they promise something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import onnx
import onnx_ir as ir

from ..deadline import OutOfTime
from ..errors import TamagoError
from ..ir import op_name, weight_bytes
from ..progress import progress
from ..rule import Skip
from .acceptance import Evidence
from .calibration import Sample
from .costs import lowered_copy, milliseconds_of
from .losses import LossModel
from .structure import Observed, Structure, Variant
from .tables import Tables
from .task import Task

SAME = 1.02  # ratios this close are equal
MOST_SECONDS = 30.0  # for all variants of a search
MENDING = 3.0  # times less is what more work on the weights may make of a rise; 1.0 to 3.1 were measured
MOST_ELEMENTS = 1 << 18  # of inputs that structures look at
FEWEST = 16  # samples that they look at, however large
TOKEN = 32  # elements that an index stands for
Judged = Callable[[ir.Model], Evidence]
T = TypeVar("T")


@dataclass
class Measured:
    """A variant: how much worse than the original where choices are made, how much cheaper than the exact program.

    `times` are milliseconds of the exact program and of this one; empty until it is good enough to be timed. `mended`
    makes a program that may be closer, until it was asked.
    """

    structure: str
    setting: str
    model: ir.Model
    evidence: Evidence
    bytes_ratio: float
    times: Sequence[float] = ()
    mended: Callable[[], ir.Model] | None = None
    _tables: Tables | None = None

    @property
    def time_ratio(self) -> float:
        """Of its milliseconds to those of the exact program."""
        before, after = self.times
        return after / before

    def beats(self, other: Measured) -> bool:
        """Whether the other is no better in anything that counts."""
        return (
            self.structure != other.structure
            and self.evidence.value <= other.evidence.value
            and self.time_ratio <= other.time_ratio * SAME
            and self.bytes_ratio <= other.bytes_ratio * SAME
        )

    def tables(self, task: Task, loss: LossModel, batch: int, base: float) -> Tables:
        """Its places and their forms; filled when first asked for.

        Args:
            task: what is asked.
            loss: whose rise is predicted.
            batch: how many examples are run together.
            base: its own measured rise, in the units in which predictions add.
        """
        if self._tables is None:
            self._tables = Tables(task, self.model, f"{self.structure} {self.setting}", base)
            self._tables.fill(loss, batch)
            self._tables.price(self.times[-1])
        return self._tables


def enough(samples: Sequence[Sample]) -> Sequence[Sample]:
    """As many samples as tell which directions and channels matter; a token says as much as a picture's corner."""
    seen = 0
    for count, sample in enumerate(samples, 1):
        seen += sum(np.size(a) * (1 if np.asarray(a).dtype.kind == "f" else TOKEN) for a in sample.feeds.values())
        if seen >= MOST_ELEMENTS and count >= FEWEST:
            return samples[:count]
    return samples


def _foreign(model: ir.Model) -> set[str]:
    """Those that the ONNX standard does not have."""
    version = model.opset_imports.get("", 1)
    return {
        op_name(n)
        for n in model.graph.all_nodes()
        if n.domain not in ("", "ai.onnx") or not onnx.defs.has(n.op_type, version)
    }


class Variants:
    """What the structures make of the exact program, asked for no further than a budget reaches.

    Args:
        task: what is asked.
        loss: what structures weigh errors by.

    `unseen` numbers the choosing samples that no structure looked at: on those a variant is judged.
    """

    def __init__(self, task: Task, loss: LossModel) -> None:
        self._task = task
        choose = task.split.choose
        looked_at = enough(choose[::2])
        self._observed = Observed(task.exact, looked_at, loss)
        self.unseen = [i for i in range(len(choose)) if i % 2 or i // 2 >= len(looked_at)]
        self._running: dict[str, Iterator[Variant]] = {}
        self._known: dict[str, list[Measured]] = {}
        self._seconds = 0.0
        self.refused: list[tuple[str, str]] = []

    def within(self, judged: Judged, fits: Callable[[Evidence], bool]) -> Iterator[Measured]:
        """Variants whose measured rise is within the budget, round by round.

        A structure is left when its next variant is over it, or no better in rise, time and bytes than what
        another one offers.

        Args:
            judged: the evidence of a program on choosing samples that no structure looked at.
            fits: whether a measured rise is clearly within the budget.
        """
        offered: list[Measured] = []
        active = [self._of(structure, judged) for structure in self._task.structures]
        while active:
            following: list[Iterator[Measured]] = []
            for variants in active:
                measured = next(variants, None)
                if measured is None or not self._in_reach(measured, judged, fits) or not self._timed(measured):
                    continue
                if any(other.beats(measured) for other in offered):
                    continue
                offered.append(measured)
                following.append(variants)
                yield measured
            active = following

    def _of(self, structure: Structure, judged: Judged) -> Iterator[Measured]:
        known = self._known.setdefault(structure.name, [])
        yield from list(known)
        running = self._running.setdefault(structure.name, structure.function(self._observed))
        while self._has_time():
            start = time.perf_counter()
            variant = self._made(structure.name, lambda: next(running, None))
            measured = None if variant is None else self._measured(structure, variant, judged)
            self._seconds += time.perf_counter() - start
            if variant is None:
                return
            if measured is not None:
                known.append(measured)
                yield measured

    def _has_time(self) -> bool:
        return self._seconds < MOST_SECONDS and time.perf_counter() <= self._task.until

    def _made(self, name: str, make: Callable[[], T | None]) -> T | None:
        progress(f"whole programs: {name}")
        try:
            return make()
        except OutOfTime:
            raise
        except (Skip, TamagoError) as reason:
            self.refused.append((name, str(reason)))
        except Exception as error:  # a structure that fails on a model is one less to choose from
            self.refused.append((name, f"it failed: {type(error).__name__}: {error}"))
        return None

    def _measured(self, structure: Structure, variant: Variant, judged: Judged) -> Measured | None:
        lacking = self._task.lacking(frozenset(_foreign(variant.model) - _foreign(self._task.exact)))
        if lacking:
            self.refused.append((structure.name, f"it needs {', '.join(sorted(lacking))}"))
            return None
        try:
            evidence = judged(variant.model)
        except TamagoError as reason:
            self.refused.append((f"{structure.name} {variant.setting}", str(reason)))
            return None
        smaller = weight_bytes(variant.model) / max(weight_bytes(self._task.exact), 1)
        return Measured(structure.name, variant.setting, variant.model, evidence, smaller, mended=variant.mended)

    def _in_reach(self, measured: Measured, judged: Judged, fits: Callable[[Evidence], bool]) -> bool:
        """Whether its rise is within the budget, after more work on its weights where that may bring it there."""
        if fits(measured.evidence):
            return True
        within_reach = replace(measured.evidence, value=measured.evidence.value / MENDING)
        if measured.mended is None or not self._has_time() or not fits(within_reach):
            return False
        start, mend, measured.mended = time.perf_counter(), measured.mended, None
        model = self._made(f"{measured.structure} {measured.setting}", mend)
        evidence = measured.evidence if model is None else judged(model)
        self._seconds += time.perf_counter() - start
        if model is not None and evidence.value < measured.evidence.value:
            measured.model, measured.evidence = model, evidence
        return fits(measured.evidence)

    def _timed(self, measured: Measured) -> bool:
        """Whether it runs on the workloads; it is timed there once."""
        if measured.times:
            return True
        start = time.perf_counter()
        try:
            target = self._task.target
            programs = [lowered_copy(target, m) for m in (self._task.exact, measured.model)]
            measured.times = milliseconds_of(target, programs, self._task.workloads)
        except TamagoError as reason:
            self.refused.append((f"{measured.structure} {measured.setting}", str(reason)))
        finally:
            self._seconds += time.perf_counter() - start
        return bool(measured.times)
