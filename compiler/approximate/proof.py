"""The last word on choices: is the rise on samples that chose nothing within the budget, and is it worth its error?

A candidate that is not proved makes room for one that was predicted to rise by less, one that is not worth its error
for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..progress import progress
from .acceptance import Evidence
from .budget import Budget
from .costs import lowered_copy, milliseconds_of
from .stack import Program, together
from .tables import STORING
from .task import Found

if TYPE_CHECKING:
    from .search import Search

ATTEMPTS = 3  # results put to proof
SAFE = (0.5, 0.25, 0.1, 0.02, 2e-4, 2e-6)  # of the level, that the last choice to be proved may use
SURE = 5.0  # standard errors below the budget where it was chosen: 2.4 for the bound, the rest for scatter
TIGHTEN = 0.2  # at least, of the predicted rise of what could not be proved
CHEAPER = 0.9  # of the cost of what was proved: what is worth another proof
NEAR = 1.5  # levels this close give much the same choice
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
        self._failed = dict[int, float]()  # by tables: the least level that was not proved
        self._stored = set[str]()

    def first_of(self, candidates: Sequence[Found]) -> Found | None:
        """The first candidate that is proved, cheapest first, or what is cheaper still; None where none is."""
        search, left = self.search, list(candidates)
        task, outcome = search.task, search.outcome
        progress("proof on samples that chose nothing")
        needed: list[int] = []
        level, safe = float("inf"), self.allowed <= 0
        while outcome.attempts < self._most:
            if not safe and (not left or outcome.attempts == self._most - 1):
                safe, left = True, self._last_resort(level) or left
            if not left:
                break
            found = left.pop(0)
            model = self._laid_out(found)
            program = task.target.lower(model)
            reason = self._refused(found, model, program)
            if reason is not None:
                left = self._instead(found, reason, left)
                continue
            if self._is_proved(found, program):
                return self._between(found)
            proof, attempt = found.proof, outcome.attempts
            assert proof is not None
            count = proof.samples_needed(self.allowed, attempt)
            if count is not None:
                needed.append(count * search.samples // len(task.split.verify))
            tightened = found.level * self._tighten(proof, min(attempt + 1, self._most))
            lost = bool(found.tables.structure)  # what its own rise scatters by, no level of its places makes less
            level = level if lost else min(level, tightened)
            others = [f for f in left if f.tables is not found.tables or f.level <= (0.0 if lost else tightened)]
            left = others if lost and others else [*search.within(found.tables, tightened), *others]
        if needed:
            outcome.notes.append(
                f"a cheaper program looked good enough, but {len(task.split.verify)} samples do not resolve a budget "
                f"of {self.allowed:g}: about {min(needed)} calibration samples would"
            )
        return None

    @cached_property
    def _most(self) -> int:
        """Attempts in which a result that answers all as the original does would be proved: each has less of the 5 %.

        Few answers of a metric are enough for the first, and not for the last.
        """
        search = self.search
        alike = search.judge.evidence(search.unseen, search.unseen, search.task.split.verify, proof=True)
        return max((a for a in range(1, ATTEMPTS + 1) if alike.upper(a) <= self.allowed), default=1)

    def _refused(self, found: Found, model: ir.Model, program: Program) -> str | None:
        """Why the program is not worth its error, by its own time; None: it is."""
        found.times = self.search.sides.times(model, program)
        return self.search.sides.refuses(model, found.times)

    def _is_proved(self, found: Found, program: Program) -> bool:
        """One attempt: whether the rise on samples that chose nothing is within the budget beyond doubt."""
        search, task, outcome = self.search, self.search.task, self.search.outcome
        found.attempt = outcome.attempts = outcome.attempts + 1
        runs = [search.judge.scores(program, task.split.verify, b) for b in self._batches()]
        proofs = [search.judge.evidence(search.unseen, after, task.split.verify, proof=True) for after in runs]
        found.proof = max(proofs, key=lambda proof: proof.upper(found.attempt))
        if found.proof.upper(found.attempt) <= self.allowed:
            return True
        tables = id(found.tables)
        self._failed[tables] = min(found.level, self._failed.get(tables, float("inf")))
        return False

    def _between(self, proved: Found) -> Found:
        """What was proved, or what the attempts that are left prove to be cheaper.

        A failed proof is answered by a long step back: most of what lies between was never asked.
        """
        search, failed = self.search, self._failed.get(id(proved.tables), 0.0)
        level = proved.level
        while search.outcome.attempts < self._most and 0 < level < failed / NEAR:
            level = float(np.sqrt(failed * level))
            cheaper = [f for f in search.within(proved.tables, level) if f.cost < CHEAPER * proved.cost]
            if not cheaper:
                continue
            found = cheaper[0]
            model = self._laid_out(found)
            program = search.task.target.lower(model)
            if self._refused(found, model, program) is None and self._is_proved(found, program):
                proved = found
            else:
                failed, level = level, proved.level
        return proved

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

    def _tighten(self, proof: Evidence, attempt: int) -> float:
        """What part of the predicted rise of a choice that was not proved the next one may have."""
        budget, upper = self.search.task.budget, proof.upper(attempt)
        if not np.isfinite(upper):
            return TIGHTEN
        if budget.metric is not None:
            # Answers turn with the amplitude of an error, √level, and their number scatters with its root.
            return float(np.clip((self.allowed / max(upper, 1e-30)) ** 4, 1e-6, TIGHTEN))
        deviations = (upper - proof.value) / max(proof.error, 1e-30)
        return min(part_of_level(budget, proof, deviations, self.allowed), 0.9)

    def _last_resort(self, level: float) -> list[Found]:
        """The choice for the last proof: what is nearly sure to be proved, for an exact result is the alternative.

        It risks less than what could not be proved: a metric's few samples where choices are made say nothing of it.
        """
        search, allowed = self.search, self.allowed
        tables = search.storing if search.task.size else search.exact
        for limit in sorted({min(part * search.level_for(allowed), level) for part in SAFE}, reverse=True):
            found = search.within(tables, limit)
            if found and all(f.on_choosing.value + SURE * f.on_choosing.error <= allowed for f in found):
                return found
        return []


def part_of_level(budget: Budget, evidence: Evidence, deviations: float, allowed: float) -> float:
    """What part of a choice's level would have left so many standard errors between its rise and the bound.

    An error r times as large in the outputs raises a loss by r² but scatters it by r: v·r² + s·r = allowed. The
    relative error of the outputs itself is r times as large.
    """
    if budget.metric is not None:
        return 1.0
    rise, spread, bound = max(evidence.value, 0.0), deviations * evidence.error, 0.95 * allowed
    if not np.isfinite(spread) or rise + spread <= bound:
        return 1.0
    if budget.loss is None:
        return float((bound / (rise + spread)) ** 2)
    return float((2 * bound / (spread + np.sqrt(spread**2 + 4 * rise * bound))) ** 2)
