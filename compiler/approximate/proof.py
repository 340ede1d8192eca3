"""The last word on choices: is the rise on samples that chose nothing within the budget, and is it worth its error?

The cheapest candidate is asked first. Where it is not proved, others are asked from the safest on, each cheaper than
the one before, until one is not proved: the last that was is the result. A candidate that is not worth its error makes
room for the next; that says nothing of its rise, and costs no proof.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..deadline import OutOfTime, ended_by
from ..errors import TamagoError
from ..progress import progress
from ..streaming import Streaming
from .costs import lowered_copy, milliseconds_of
from .stack import Program, together
from .tables import STORING
from .task import Found

if TYPE_CHECKING:
    from .search import Search
    from .tables import Tables

SAFE = (0.5, 0.25, 0.1, 0.02, 2e-4, 2e-6)  # of the level, that the safest choice may use
SURE = 5.0  # standard errors below the budget where it was chosen: 2.2 for the bound, the rest for scatter
RUNGS = 5  # choices between the safest and what was not proved
LOOKED_AT = 24  # levels, to find them
LOWER = 0.85  # of the level of what was not proved: the highest of them
CHEAPER = 0.96  # of the cost of what was proved: what is worth another proof
REFUSALS = 3  # candidates that turn out not to be worth their error
NOT_WORTH = "the cheapest program within the budget where it was chosen"


class Proof:
    """What is put to proof, one after the other.

    Args:
        search: makes the choices, and keeps what there is to say of them.
        allowed: by the budget.
    """

    def __init__(self, search: Search, allowed: float) -> None:
        self.search, self.allowed = search, allowed
        self._refusals = 0
        self._needed = list[int]()  # samples, by each proof that failed for want of them
        self._stored = set[str]()

    def first_of(self, candidates: Sequence[Found]) -> Found | None:
        """What is proved, as cheap as may be; None where nothing is."""
        progress("proof on samples that chose nothing")
        left = list(candidates)
        while left:
            found = left.pop(0)
            program, reason = self._timed(found)
            if reason is not None:
                left = self._instead(found, reason, left)
                continue
            if self._is_proved(found, program):
                return found
            proved = self._from_the_safest(found, left)
            if proved is None:
                self._say_what_would_do()
            return proved
        return None

    def _say_what_would_do(self) -> None:
        search, unseen = self.search, len(self.search.task.split.verify)
        if self._needed:
            search.outcome.notes.append(
                f"a cheaper program looked good enough, but {unseen} samples do not resolve a budget of "
                f"{self.allowed:g}: about {min(self._needed) * search.samples // unseen} calibration samples would"
            )

    def _from_the_safest(self, failed: Found, left: Sequence[Found]) -> Found | None:
        """The last of ever cheaper choices that is proved, before the first that is not."""
        proved: Found | None = None
        if self.allowed <= 0 or not self._can_be_proved_again:
            return None
        try:
            for found in self._rungs(failed, left):
                if proved is not None and time.perf_counter() > self.search.task.until:
                    break
                if proved is not None and found.cost > CHEAPER * proved.cost:
                    continue
                program, reason = self._timed(found)
                if reason is not None:
                    continue
                if not self._is_proved(found, program):
                    break
                proved = found
        except (KeyboardInterrupt, OutOfTime, TamagoError) as stop:
            if proved is None:
                raise
            said = str(stop) if isinstance(stop, TamagoError) else ended_by(stop)
            self.search.outcome.notes.append(f"{said}: what was proved until then is the result")
        return proved

    def _rungs(self, failed: Found, left: Sequence[Found]) -> Iterator[Found]:
        """Choices to be asked after a failure, from the safest on; no proof has a say in what they are.

        A pass over a model that is not held in memory takes minutes: of such a one only the safest is asked.
        """
        search = self.search
        ours = search.exact if failed.tables.structure else failed.tables
        others = [f for f in left if f.tables is not failed.tables or f.level < failed.level]
        highest = (
            failed.level if ours is failed.tables else max((f.level for f in left if f.tables is ours), default=0.0)
        )
        top = LOWER * highest if highest > 0 else search.level_for(self.allowed)
        safest = self._safest(top)
        yield from safest
        if isinstance(search.task.original, Streaming):
            return
        low = max(min((f.level for f in safest), default=0.0), SAFE[-1] * top)
        for level in self._levels(ours, low, top):
            yield from search.within(ours, level)
        yield from sorted(others, key=lambda f: -f.cost)

    def _levels(self, tables: Tables, low: float, top: float) -> Iterator[float]:
        """Between two levels those whose choices get cheaper by equal factors."""
        if not 0 < low < top:
            return
        levels = [float(level) for level in np.geomspace(low, top, LOOKED_AT)]
        choices = [(level, self.search.choose(tables, level)) for level in levels]
        costs = [(level, choice.cost) for level, choice in choices if choice is not None and choice.cost > 0]
        if not costs:
            return
        (_, dearest), (_, cheapest) = costs[0], costs[-1]
        step = min((cheapest / dearest) ** (1 / RUNGS), CHEAPER)
        for level, cost in costs[1:]:
            last = level == costs[-1][0]
            if cost <= (CHEAPER if last else step) * dearest:
                dearest = cost
                yield level

    @cached_property
    def _can_be_proved_again(self) -> bool:
        """Whether a result that answers all as the original does would be proved by what is left of the 5 %.

        Few answers of a metric are enough for the first attempt, and not for others.
        """
        search = self.search
        alike = search.judge.evidence(search.unseen, search.unseen, search.task.split.verify, proof=True)
        return alike.upper(2) <= self.allowed

    def _timed(self, found: Found) -> tuple[Program, str | None]:
        """The program in its fastest layout, and why it is not worth its error, by its own time; None: it is."""
        model = self._laid_out(found)
        program = self.search.task.target.lower(model)
        found.times = self.search.sides.times(model, program)
        return program, self.search.sides.refuses(model, found.times)

    def _is_proved(self, found: Found, program: Program) -> bool:
        """One attempt: whether the rise on samples that chose nothing is within the budget beyond doubt."""
        search, task, outcome = self.search, self.search.task, self.search.outcome
        found.attempt = outcome.attempts = outcome.attempts + 1
        runs = [search.judge.scores(program, task.split.verify, b) for b in self._batches()]
        proofs = [search.judge.evidence(search.unseen, after, task.split.verify, proof=True) for after in runs]
        found.proof = max(proofs, key=lambda proof: proof.upper(found.attempt))
        if found.proof.upper(found.attempt) <= self.allowed:
            return True
        count = found.proof.samples_needed(self.allowed, found.attempt)
        self._needed += [] if count is None else [count]
        return False

    def _batches(self) -> list[int]:
        """How many examples are run together: one sample by itself, and as many as a batch has where that differs."""
        batch, samples = self.search.batch, self.search.task.split.verify
        return [1] if len(together(samples, 1)) == len(together(samples, batch)) else [1, batch]

    def _instead(self, found: Found, reason: str, left: Sequence[Found]) -> list[Found]:
        """What is left when a candidate is not worth its error: it was priced by its parts, and timed as a whole.

        A smaller program that is slower makes room for those that store less and run the same kernels, of the exact
        program and of what a structure made of it.
        """
        search, outcome = self.search, self.search.outcome
        outcome.refused.append(("the program", found.tables.structure or "forms", f"a choice that fits {reason}"))
        outcome.notes[:] = [n for n in outcome.notes if not n.startswith(NOT_WORTH)]
        outcome.notes.append(f"{NOT_WORTH} {reason}")
        self._refusals += 1
        others = list(left) if self._refusals < REFUSALS else [f for f in left if f.tables.methods == STORING]
        if not search.task.size or found.tables.methods == STORING:
            return others
        for tables in (search.exact, found.tables):
            if tables.structure not in self._stored:
                self._stored.add(tables.structure)
                others += search.candidates(tables.with_methods(STORING), self.allowed)
        return sorted(others, key=lambda f: f.cost)

    def _laid_out(self, found: Found) -> ir.Model:
        """The program in its fastest layout: the proof is of that one, and so is every run after it."""
        target, workloads = self.search.task.target, self.search.task.workloads
        found.layout = None
        model = found.build()
        every = [model, *target.layouts(model)]
        if len(every) == 1:
            return model
        programs = [lowered_copy(target, each) for each in every]
        best = int(np.argmin(milliseconds_of(target, programs, workloads)))
        found.layout = best - 1 if best else None
        return every[best]

    def _safest(self, level: float) -> list[Found]:
        """A choice that is nearly sure to be proved, none where there is no such.

        It risks less than what could not be proved: a metric's few samples where choices are made say nothing of it.
        """
        search, allowed = self.search, self.allowed
        tables = search.storing if search.task.size else search.exact
        for limit in sorted({min(part * search.level_for(allowed), level) for part in SAFE}, reverse=True):
            found = search.within(tables, limit)
            if found and all(f.on_choosing.value + SURE * f.on_choosing.error <= allowed for f in found):
                return found
        return []
