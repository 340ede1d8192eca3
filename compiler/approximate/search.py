"""The main line under a budget: places → forms → predicted rise and measured cost → choice → measured → proved.

The level of predicted rise that the choice may use is moved until the *measured* rise on the choosing samples fills the
budget: predictions add only nearly. What then counts is measured once more, on samples that chose nothing. Whole
programs that a structure made narrower (`variants.py`) get tables of their own where they promise to be cheaper.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from ..blas import one_thread
from ..deadline import OutOfTime, ended_by, stopping_at
from ..errors import TamagoError
from ..progress import progress
from ..verify import compare
from .acceptance import Evidence
from .budget import Budget
from .costs import lowered_copy, milliseconds_of
from .gain import Sides
from .judge import Judge, Scores
from .levels import CLEAR, START, Levels
from .losses import LossModel, loss_model
from .preparation import Prepared, prepared
from .proof import Proof
from .reference import Reference
from .repaired import repaired
from .responses import Response
from .stack import examples, run_together, together
from .structure import Observed
from .tables import SMALL, STORING, Tables
from .task import Choice, Found, Outcome, Task
from .variants import Measured, Variants, enough

SOLVES = 8  # choices measured on the choosing samples
LARGEST_INTERACTION = 4.0  # of forms, as a factor on what is predicted of them together
MOST_VARIANTS = 2  # programs that get tables beside the exact one's
CHEAPER = 0.97  # of the best choice's cost: what a variant must promise


class Search:
    """One search; its tables serve every budget that is asked of it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.outcome = Outcome()
        self.samples = len(task.split.choose) + len(task.split.verify)
        self._proved_on = sum(map(examples, task.split.verify))
        first = task.split.choose[0]
        self.batch = 1
        outputs = Response(task.exact, ()).outputs(first.feeds)
        self.loss: LossModel = loss_model(task.budget, task.outputs, outputs, first)
        self.judge = Judge(task.budget, self.loss, Reference(task.original))
        self._use(task.exact)
        self._ready = Prepared(task.exact, [], [])
        self._before: Scores = []
        self.unseen: Scores = []
        self.worth = float("inf")

    def _use(self, exact: ir.Model) -> None:
        """Take this as the exact program."""
        self.task = replace(self.task, exact=exact)
        self.exact, self.variants = Tables(self.task, exact), Variants(self.task, self.loss)

    def _observe(self, model: ir.Model) -> Observed:
        return Observed(model, enough(self.task.split.choose), self.loss)

    def prepare(self) -> None:
        """Fill the tables: each place's forms with predicted rise and measured cost.

        Raises:
            OutOfTime: of a model that is not held in memory, before there is anything to choose from.
        """
        with stopping_at(self.task.until), self._few_threads():
            self._prepare()

    def _few_threads(self) -> AbstractContextManager[None]:
        """Linear algebra on one thread where matrices are small: there its threads wait more than they compute."""
        return one_thread() if self.exact.side <= SMALL else nullcontext()

    def _prepare(self) -> None:
        task = self.task
        self._ready = prepared(task.preparations, task.exact, task.target, self._observe, task.until)
        if self._ready.done:
            self._use(self._ready.model)
        progress("the original on all samples")
        self.batch = self.task.batch if self.task.batch > 1 and self._batches_are_independent() else 1
        self._before = self.judge.scores(self.task.original, self.task.split.choose, self.batch)
        self.unseen = self.judge.scores(self.task.original, self.task.split.verify)  # exact: batches change nothing
        self._check_baseline()
        self.exact.fill(self.loss, self.batch)
        task, latency = self.task, self.task.budget.latency
        exact = lowered_copy(task.target, task.exact)
        (milliseconds,) = milliseconds_of(task.target, [exact], task.workloads)
        self.exact.price(milliseconds)
        self.outcome = self._outcome()
        self.storing = self.exact.with_methods(STORING)
        self.sides = Sides(task.original, exact, task.target, task.workloads, task.size, task.bytes, latency)

    def _outcome(self) -> Outcome:
        refused = [("the program", name, reason) for name, reason in self._ready.refused]
        notes = [f"before anything was chosen, and without an error of its own: {name}" for name in self._ready.done]
        if self.task.budget.metric is None and self.loss.kind in ("cross-entropy", "kl"):
            said = self.loss.classes.describe([output.name or "" for output in self.task.exact.graph.outputs])
            notes += [said] if said else []
        return Outcome(alternatives=self.exact.alternatives, refused=[*refused, *self.exact.refused], notes=notes)

    def _batches_are_independent(self) -> bool:
        """Whether the original gives a sample the same outputs beside others as alone: the first axis may be time."""
        group = together(self.task.split.choose, self.task.batch)[0]
        if len(group) == 1:
            return True
        try:
            beside = next(run_together(self.task.original, [group]))[0]
        except (TamagoError, ValueError):
            return False
        alone = self.task.original(group[0].feeds)
        return all(d.passed for d in compare([""] * len(alone), alone, beside))

    def _check_baseline(self) -> None:
        budget, split = self.task.budget, self.task.split
        relative = budget.metric is None and not budget.is_absolute and budget.loss is not None
        for scores, samples in ((self._before, split.choose), (self.unseen, split.verify)):
            mean = float(np.mean(scores)) if relative else 1.0
            if mean <= 0:
                raise TamagoError(
                    "U047",
                    f"the original's loss is {mean:.3g}: a relative rise of it means nothing",
                    todo="give an absolute bound: Budget(loss=…, absolute=0.01)",
                )
            if not np.isfinite(self.judge.evidence(scores, scores, samples).value):
                raise self._no_number()

    def _no_number(self) -> TamagoError:
        """Why nothing can be compared with the original: with a metric no single sample is to blame."""
        unseen = sorted({*range(self.samples)} - {*self.task.split.chosen})
        every = zip((*self.task.split.chosen, *unseen), (*self._before, *self.unseen), strict=True)
        metric = self.task.budget.metric is not None
        at_fault = [] if metric else sorted(n for n, score in every if not np.all(np.isfinite(score)))
        return TamagoError(
            "U047",
            f"the original's own {'metric' if metric else 'loss'} is no finite number: nothing can be compared with it",
            where=", ".join(f"calibration item {n}" for n in at_fault[:4]),
            todo="leave out what the model has no finite answer for",
        )

    def at(self, budget: Budget) -> Search:
        """The same tables asked for another bound on the same quantity."""
        other = copy(self)
        other.task = replace(self.task, budget=budget)
        other.judge = replace(self.judge, budget=budget)
        other.outcome = self._outcome()
        return other

    def solve(self) -> Outcome:
        """The cheapest program within the budget, proved on samples that did not choose it."""
        allowed = self.task.budget.allowed
        with stopping_at(self.task.until), self._few_threads():
            candidates = self.candidates(self.exact, allowed)
            candidates += self._on_variants(candidates, allowed)
            candidates.sort(key=lambda f: f.cost)
            candidates += repaired(self, candidates, allowed)
        try:
            with stopping_at(self.task.limit), self._few_threads():
                self.outcome.found = self.prove(sorted(candidates, key=lambda f: (f.cost, not f.repair)), allowed)
        except (KeyboardInterrupt, OutOfTime) as stop:
            self.outcome.notes.append(f"{ended_by(stop)} before the best choice was proved")
        if self.outcome.found is None:
            self.outcome.notes.append("no approximation was proved to be within the budget: the result is exact")
        return self.outcome

    # --- choosing ---------------------------------------------------------------------------------------------

    @property
    def levels(self) -> Levels:
        """What a choice may use of the budget that is asked for."""
        return Levels(self.task.budget, self._before, len(self.task.split.verify), self._proved_on)

    def level_for(self, allowed: float) -> float:
        """Where the search for a level of predicted rise starts."""
        return self.levels.first(allowed)

    def fits(self, evidence: Evidence, allowed: float) -> bool:
        """Whether what was measured on the choosing samples leaves room for the proof."""
        return self.levels.fit(evidence, allowed)

    def choose(self, tables: Tables, level: float) -> Choice | None:
        """The cheapest choice on a program within a level of predicted rise."""
        budget, slower = self.task.budget, self.exact.exact_cost
        return tables.choose(level, budget, self.worth, risk=self.levels.risk, slower=slower)

    def measure(self, tables: Tables, choice: Choice) -> Found:
        """The choice built and judged on the choosing samples."""
        evidence = self._judged(tables.build(choice.changed), unseen=bool(tables.structure))
        level = tables.base + self._interaction(tables) * (choice.rise - tables.base)
        predicted = self.levels.in_judged_units(level)
        return Found(tables, choice.changed, choice.rise, choice.level, predicted, choice.cost, evidence)

    def _interaction(self, tables: Tables) -> float:
        """How much more than predicted earlier choices on the program were measured to rise."""
        ratios = [
            (self.levels.in_units(f.on_choosing.value) - tables.base) / (f.rise - tables.base)
            for f in self.outcome.tried
            if f.tables is tables and f.rise > tables.base and f.on_choosing.value > CLEAR * f.on_choosing.error
        ]
        if not ratios or self.task.budget.metric is not None:
            return 1.0
        return float(np.clip(np.median(ratios), 1 / LARGEST_INTERACTION, LARGEST_INTERACTION))

    def candidates(self, tables: Tables, allowed: float) -> list[Found]:
        """Choices on a program that stay within the budget where they were chosen, cheapest first."""
        level, low, high = self.level_for(allowed), 0.0, float("inf")
        self.worth = level / START
        seen: dict[tuple[tuple[str, str, str], ...], Found] = {}
        passed: list[Found] = []
        for turn in range(SOLVES):
            if time.perf_counter() > self.task.until and turn:
                break
            choice = self.choose(tables, level)
            if choice is None:
                if self.task.budget.size is not None or self.task.budget.latency is not None:
                    self.outcome.notes.append("no choice of forms meets the caps on size and latency")
                break
            if not choice.changed:
                low = level
            found = seen.get(choice.key)
            if found is None:
                progress(f"choice {turn + 1}: {len(choice.changed)} places, predicted {choice.rise:.3g}")
                try:
                    found = seen[choice.key] = self.measure(tables, choice)
                except (KeyboardInterrupt, OutOfTime) as stop:
                    self.outcome.notes.append(f"{ended_by(stop)}: the best choice until then was put to proof")
                    break
                self.outcome.tried.append(found)
            good = self.fits(found.on_choosing, allowed)
            if good:
                low = max(low, level)
                passed.append(found)
            else:
                high = min(high, level, max(found.level, 1e-30))
            level = self.levels.after(level, low, high, found, allowed)
            if high / max(low, 1e-30) < 1.15 or (good and not np.isfinite(high) and self._saturated(found)):
                break
        unique = {id(f): f for f in passed if f.changes}
        return sorted(unique.values(), key=lambda f: f.cost)

    def _saturated(self, found: Found) -> bool:
        """Whether no level would give a cheaper choice."""
        free = self.choose(found.tables, float("1e30"))
        return free is not None and free.cost >= found.cost * 0.999

    # --- narrower programs ------------------------------------------------------------------------------------

    def _on_variants(self, best: Sequence[Found], allowed: float) -> list[Found]:
        """Choices on the variants that promise to be cheaper than the best choice on the exact program."""
        if not self.task.structures or allowed <= 0 or time.perf_counter() > self.task.until:
            return []
        least = best[0].cost if best else self._cost_of_exact()
        promising: list[tuple[float, Measured]] = []
        try:
            for measured in self.variants.within(
                partial(self._judged, unseen=True), partial(self.fits, allowed=allowed)
            ):
                self.outcome.variants.append((measured.structure, measured.setting, measured.evidence.value))
                promise = self._promise(measured, best, allowed)
                if promise < CHEAPER * least:
                    promising.append((promise, measured))
        except (KeyboardInterrupt, OutOfTime) as stop:
            self.outcome.notes.append(f"{ended_by(stop)}: no further whole programs were tried")
        self.outcome.refused += [("the program", name, reason) for name, reason in self.variants.refused]
        found: list[Found] = []
        for _, measured in sorted(promising, key=lambda p: p[0])[:MOST_VARIANTS]:
            if time.perf_counter() > self.task.until:
                break
            progress(f"{measured.structure} {measured.setting}")
            try:
                tables = measured.tables(self.task, self.loss, self.batch, self._base(measured))
            except OutOfTime:
                break
            found += self.candidates(tables, allowed)
        return found

    def _judged(self, model: ir.Model, *, unseen: bool) -> Evidence:
        """A program on the choosing samples; what a structure was fitted to looks better there than it is."""
        return self.judged(model, self.variants.unseen if unseen else range(len(self.task.split.choose)))

    def judged(self, model: ir.Model, numbers: Sequence[int]) -> Evidence:
        """A program on the choosing samples of these numbers."""
        samples = [self.task.split.choose[i] for i in numbers]
        scores = self.judge.scores(self.task.target.lower(model), samples, self.batch)
        return self.judge.evidence([self._before[i] for i in numbers], scores, samples)

    def _base(self, measured: Measured) -> float:
        """What of the level a variant uses by itself: for a metric the level is no measure of it."""
        return 0.0 if self.task.budget.metric is not None else self.levels.in_units(max(measured.evidence.value, 0.0))

    def _cost_of_exact(self) -> float:
        return float(self.exact.weight_bytes) if self.task.size else self.exact.exact_cost

    def _promise(self, measured: Measured, best: Sequence[Found], allowed: float) -> float:
        """The cost of the best choice on a variant, if the forms of its places gain what they do on the exact program.

        What is left of the budget is spent on the exact program's places; the result shrinks as the program did.
        """
        used = self.levels.in_units(max(measured.evidence.value, 0.0)) / max(self.levels.in_units(allowed), 1e-30)
        level = (best[0].level if best else self.level_for(allowed)) * max(1.0 - used, 0.0)
        choice = self.choose(self.exact, level)
        if choice is None:
            return float("inf")
        return choice.cost * (measured.bytes_ratio if self.task.size else measured.time_ratio)

    # --- proving ----------------------------------------------------------------------------------------------

    def prove(self, candidates: Sequence[Found], allowed: float) -> Found | None:
        """The cheapest candidate whose rise on samples that chose nothing is within the budget beyond doubt."""
        return Proof(self, allowed).first_of(candidates)

    def within(self, tables: Tables, level: float) -> list[Found]:
        """The choice within a level of predicted rise, measured; none where nothing would change."""
        tables = tables if tables.base < level else self.exact
        choice = self.choose(tables, level)
        if choice is None or not (choice.changed or tables.structure):
            return []
        found = self.measure(tables, choice)
        self.outcome.tried.append(found)
        return [found]
