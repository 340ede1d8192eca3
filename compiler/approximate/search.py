"""The main line under a budget: places → forms → predicted rise and measured cost → choice → measured → proved.

The level of predicted rise that the choice may use is moved until the *measured* rise on the choosing samples fills the
budget: predictions add only nearly. What then counts is measured once more, on samples that chose nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import TamagoError
from ..facts import Array
from ..progress import progress
from ..rule import Skip
from ..verify import compare
from .acceptance import Evidence
from .budget import Budget, Workload
from .calibration import Split
from .costs import FAILED, Costs, Target
from .forms import exact_form
from .judge import Judge, Scores
from .knapsack import Limits, Option, knapsack
from .losses import LossModel, Structure, loss_model
from .method import Form, Inputs, Method
from .places import Place, find_places
from .responses import Response, Seen, predicted_rise, samples_to_see
from .stack import examples, run_together, stacked, together
from .write import Chosen, alone, put

SOLVES = 8  # choices measured on the choosing samples
ATTEMPTS = 3  # results put to proof on the others
FILL = 0.9  # of the budget, measured on the choosing samples, is enough
START = 0.7
CLEAR = 2.0  # standard errors that a measurement on the choosing samples stays below the budget
TIGHTEN = 0.2  # at least, of the predicted rise of what could not be proved


@dataclass(frozen=True)
class Task:
    """What is asked.

    Args:
        original: the model as it was given, as a program.
        exact: what exact rewriting made of it.
        split: samples to choose and to prove on.
        budget: what is allowed.
        size: minimise bytes instead of milliseconds.
        workloads: what latency is judged on.
        methods: what may be used.
        target: where the program runs.
        store: where costs are kept.
        structure: the graph's outputs as the owner's functions take them.
        batch: how many examples are run together where they are judged.
        portable: no operators outside ONNX.
        until: `time.perf_counter` after which the search only finishes what it has.
    """

    original: Callable[[Mapping[str, Array]], Sequence[Any]]
    exact: ir.Model
    split: Split
    budget: Budget
    size: bool
    workloads: Sequence[Workload]
    methods: Sequence[Method]
    target: Target
    store: Any
    structure: Structure
    batch: int = 1
    portable: bool = False
    until: float = float("inf")


@dataclass(frozen=True)
class Alternative:
    """One form of one place, as the choice and the report see it; the form itself is kept by the search."""

    place: str
    method: str
    setting: str
    rise: float
    cost: float
    stored: int


@dataclass
class Found:
    """A choice, measured.

    Args:
        model: the program.
        choice: what was chosen for each place that changed.
        level: the rise the predictions add up to, in their own units.
        predicted: the same in the judge's units; None where nothing predicts them.
        on_choosing: measured where it was chosen.
        proof: measured on the other samples; None: not yet.
    """

    model: ir.Model
    choice: list[Alternative]
    level: float
    predicted: float | None
    cost: float
    on_choosing: Evidence
    proof: Evidence | None = None


@dataclass
class Outcome:
    """What the search did.

    Args:
        found: the best result proved to be within the budget; None: nothing was.
        tried: every choice that was measured.
        refused: (place, method, reason).
        notes: what the report should say.
    """

    found: Found | None = None
    tried: list[Found] = field(default_factory=list[Found])
    alternatives: list[list[Alternative]] = field(default_factory=list[list[Alternative]])
    refused: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    notes: list[str] = field(default_factory=list[str])
    attempts: int = 0


class Search:
    """One search; its tables serve every budget that is asked of it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.outcome = Outcome()
        self.samples = len(task.split.choose) + len(task.split.verify)
        self.places = find_places(task.exact.graph)
        self.response = Response(task.exact, self.places)
        first = task.split.choose[0]
        self.batch = task.batch if task.batch > 1 and self._batches_are_independent() else 1
        self.loss: LossModel = loss_model(task.budget, task.structure, self.response.outputs(first.feeds), first)
        self.judge = Judge(task.budget, self.loss, task.original)
        self.forms: dict[tuple[str, str, str], Form] = {}
        self._before: Scores = []
        self.worth = float("inf")

    def prepare(self) -> None:
        """Fill the tables: each place's forms with predicted rise and measured cost."""
        task = self.task
        progress("the original on the choosing samples")
        self._before = self.judge.scores(task.original, task.split.choose, self.batch)
        self._check_baseline()
        seen = self._see()
        shapes = [self.response.shapes(w.feeds) for w in task.workloads]
        costs = Costs(task.target, task.store, [w.weight for w in task.workloads])
        for number, place in enumerate(self.places):
            progress(f"place {number + 1} of {len(self.places)}: {place.name}")
            name = place.y.name or ""
            if name not in seen or any(name not in s for s in shapes):
                self.outcome.refused.append((place.name, "all", "its values do not reach the loss"))
                continue
            self.outcome.alternatives.append(self._table(place, seen[name], [s[name] for s in shapes], costs))

    def _batches_are_independent(self) -> bool:
        """Whether the original gives a sample the same outputs beside others as alone: the first axis may be time."""
        group = together(self.task.split.choose, self.task.batch)[0]
        if len(group) == 1:
            return True
        try:
            beside = run_together(self.task.original, group)[0]
        except (TamagoError, ValueError):
            return False
        alone = self.task.original(group[0].feeds)
        return all(d.passed for d in compare([""] * len(alone), alone, beside))

    def _check_baseline(self) -> None:
        budget = self.task.budget
        relative = budget.metric is None and not budget.is_absolute and budget.loss is not None
        if relative and float(np.mean(self._before)) <= 0:
            raise TamagoError(
                "U047",
                f"the original's loss is {float(np.mean(self._before)):.3g}: a relative rise of it means nothing",
                todo="give an absolute bound: Budget(loss=…, absolute=0.01)",
            )

    def _see(self) -> dict[str, list[Seen]]:
        import torch

        generator = torch.Generator().manual_seed(0)
        seen: dict[str, list[Seen]] = {}
        choose = self.task.split.choose
        half = max(sum(map(examples, choose)) // 2, 1)  # two groups at least: one to fit to, one to predict on
        groups = [stacked(g) or g[0] for g in together(choose, min(self.batch, half))]
        for sample in samples_to_see(groups, self.response):
            progress("gradients of the loss")
            for name, found in self.response.see(sample, self.loss, generator).items():
                seen.setdefault(name, []).append(found)
        return seen

    def _table(
        self, place: Place, seen: Sequence[Seen], shapes: Sequence[tuple[int, ...]], costs: Costs
    ) -> list[Alternative]:
        """The place's alternatives, the exact one first."""
        exact = exact_form(place)
        fitted, seen = _halves(seen)
        produced = self._run(place, exact, fitted) or []
        offered = [("exact", exact), *self._offered(place, Inputs(tuple(s.x for s in fitted), tuple(produced)))]
        names = [f"{method} {form.setting}" for method, form in offered]
        milliseconds = costs.of(place, names, [form for _, form in offered], shapes)
        wanted = self._run(place, exact, seen)
        assert wanted is not None
        found: list[Alternative] = []
        for (method, form), cost in zip(offered, milliseconds, strict=True):
            outputs = wanted if form is exact else self._run(place, form, seen)
            if outputs is None or cost == FAILED:
                self.outcome.refused.append((place.name, method, f"{form.setting}: the target does not run it"))
                continue
            errors = [np.subtract(o, w) for o, w in zip(outputs, wanted, strict=True)]
            rise = 0.0 if form is exact else predicted_rise(seen, errors)
            name = place.y.name or ""
            self.forms[name, method, form.setting] = form
            found.append(Alternative(name, method, form.setting, rise, cost, 0 if form is exact else form.stored))
        return found

    def _offered(self, place: Place, inputs: Inputs) -> list[tuple[str, Form]]:
        found: list[tuple[str, Form]] = []
        for method in self.task.methods:
            if place.kind not in method.kinds:
                continue
            try:
                forms = method.forms(place, inputs)
            except Skip as reason:
                self.outcome.refused.append((place.name, method.name, str(reason)))
                continue
            if self.task.portable and any(form.contrib for form in forms):
                self.outcome.refused.append((place.name, method.name, "it needs operators outside ONNX"))
                continue
            found += [(method.name, form) for form in forms]
        return found

    def _run(self, place: Place, form: Form, seen: Sequence[Seen]) -> list[Array] | None:
        rank = np.ndim(seen[0].x)
        try:
            program = self.task.target.lower(
                alone(form.term, ir.DataType.from_numpy(seen[0].x.dtype), rank, place.opset)
            )
            return [np.asarray(program({"x": s.x})[0]) for s in seen]
        except TamagoError:
            return None

    def at(self, budget: Budget) -> Search:
        """The same tables asked for another bound on the same quantity."""
        other = copy(self)
        other.task = replace(self.task, budget=budget)
        other.judge = replace(self.judge, budget=budget)
        other.outcome = Outcome(alternatives=self.outcome.alternatives, refused=self.outcome.refused)
        return other

    def solve(self) -> Outcome:
        """The cheapest program within the budget, proved on samples that did not choose it."""
        allowed = self.task.budget.allowed
        candidates = self.candidates(allowed)
        self.outcome.found = self.prove(candidates, allowed)
        if self.outcome.found is None:
            self.outcome.notes.append("no approximation was proved to be within the budget: the result is exact")
        return self.outcome

    # --- choosing ---------------------------------------------------------------------------------------------

    def choose(self, level: float) -> tuple[list[Alternative], float, float] | None:
        """The cheapest choice within a level of predicted rise: what changes, its rise and its cost."""
        tables = self.outcome.alternatives
        tabled = {table[0].place for table in tables}
        weights = {p.y.name or "": p.weight_value.name or "" for p in self.places if p.y.name in tabled}
        sizes = {
            p.weight_value.name or "": p.weight_value.const_value.nbytes
            for p in self.places
            if p.weight_value.const_value is not None and (p.y.name or "") in weights
        }
        options = [
            [Option(a.cost, a.stored, a.rise, weights[a.place] if a.method == "exact" else None) for a in table]
            for table in tables
        ]
        rest = self._fixed_bytes(sizes)
        limits = Limits(level, worth=self.worth)
        if self.task.budget.size is not None:
            limits = replace(limits, stored=self.task.budget.size - rest)
        if self.task.size:  # smaller, but never slower
            limits = replace(limits, cost=sum(table[0].cost for table in tables))
        if self.task.budget.latency is not None:
            limits = replace(limits, cost=min(limits.cost, self.task.budget.latency))
        picked = knapsack(options, sizes, limits, size=self.task.size)
        if picked is None:
            return None
        every = [table[i] for table, i in zip(tables, picked, strict=True)]
        changed = [a for a in every if a.method != "exact"]
        taken = [o[i] for o, i in zip(options, picked, strict=True)]
        kept = {o.keeps for o in taken if o.keeps is not None}
        stored = float(sum(o.stored for o in taken) + sum(sizes[name] for name in kept))
        cost = stored if self.task.size else sum(o.cost for o in taken)
        return changed, sum(a.rise for a in changed), cost

    def _fixed_bytes(self, placed: Mapping[str, int]) -> int:
        tensors = [(n, v.const_value) for n, v in self.task.exact.graph.initializers.items()]
        return sum(t.nbytes for n, t in tensors if t is not None and n not in placed)

    def build(self, choice: Sequence[Alternative]) -> ir.Model:
        """The program with these alternatives in place."""
        chosen = {a.place: Chosen(a.method, self.forms[a.place, a.method, a.setting]) for a in choice}
        return put(self.task.exact, self.places, chosen)

    def measure(self, choice: Sequence[Alternative], predicted: float, cost: float) -> Found:
        """The choice built and judged on the choosing samples."""
        model = self.build(choice)
        program = self.task.target.lower(model)
        after = self.judge.scores(program, self.task.split.choose, self.batch)
        evidence = self.judge.evidence(self._before, after, self.task.split.choose)
        return Found(model, list(choice), predicted, self.in_judged_units(predicted), cost, evidence)

    def in_judged_units(self, predicted: float) -> float | None:
        """A sum of predictions as the judge measures; None for a metric, which nothing predicts."""
        budget = self.task.budget
        if budget.metric is not None:
            return None
        if budget.loss is None:
            return float(np.sqrt(max(predicted, 0.0)))
        return predicted if budget.is_absolute else predicted / float(np.mean(self._before))

    def in_units(self, evidence: float) -> float:
        """A measured quantity in the units in which predictions add."""
        budget = self.task.budget
        if budget.metric is not None:
            return evidence
        if budget.loss is None:
            return evidence**2
        return evidence if budget.is_absolute else evidence * float(np.mean(self._before))

    def level_for(self, allowed: float) -> float:
        """Where the search for a level of predicted rise starts."""
        if self.task.budget.metric is not None:
            return max(allowed, 1e-6)  # nats or relative squares: a guess that measuring corrects
        return max(START * self.in_units(allowed), 1e-12)

    def candidates(self, allowed: float) -> list[Found]:
        """Choices that stay within the budget where they were chosen, cheapest first."""
        level, low, high = self.level_for(allowed), 0.0, float("inf")
        self.worth = level / START
        seen: dict[tuple[tuple[str, str, str], ...], Found] = {}
        passed: list[Found] = []
        for turn in range(SOLVES):
            if time.perf_counter() > self.task.until and turn:
                break
            picked = self.choose(level)
            if picked is None:
                self.outcome.notes.append("no choice of forms meets the caps on size and latency")
                break
            changed, predicted, cost = picked
            if not changed:
                low = level
            key = tuple((a.place, a.method, a.setting) for a in changed)
            found = seen.get(key)
            if found is None:
                progress(f"choice {turn + 1}: {len(changed)} places, predicted {predicted:.3g}")
                try:
                    found = seen[key] = self.measure(changed, predicted, cost)
                except KeyboardInterrupt:
                    self.outcome.notes.append("interrupted: the best choice until then was put to proof")
                    break
                self.outcome.tried.append(found)
            good = self._fits(found, allowed)
            if good:
                low = max(low, level)
                passed.append(found)
            else:
                high = min(high, level, max(found.level, 1e-30))
            level = self._next(level, low, high, found, allowed)
            if high / max(low, 1e-30) < 1.15 or (good and not np.isfinite(high) and self._saturated(found)):
                break
        unique = {id(f): f for f in passed if f.choice}
        return sorted(unique.values(), key=lambda f: f.cost)

    def _next(self, level: float, low: float, high: float, found: Found, allowed: float) -> float:
        """Secant step on the measured response, kept inside what is known to be too little and too much."""
        measured = self.in_units(max(found.on_choosing.value, 0.0))
        wanted = self.in_units(max(0.95 * self._room(found, allowed), 0.3 * allowed))
        factor = float(np.clip(wanted / max(measured, 1e-30), 0.2, 8.0))
        step = level * factor
        if not np.isfinite(high):
            return max(step, level * 1.5)
        if low == 0.0:  # from what the choice really used of the level, or the same is chosen again
            used = min(level, max(found.level, 1e-30))
            return min(used * factor, used * 0.67)
        return step if low * 1.05 < step < high / 1.05 else float(np.sqrt(low * high))

    def _room(self, found: Found, allowed: float) -> float:
        """How much may be measured where forms are chosen, so that the proof, which has noise of its own, succeeds.

        A metric's few samples say too little: there the prediction decides, and the proof.
        """
        if self.task.budget.metric is not None:
            return FILL * allowed + found.on_choosing.error
        error = found.on_choosing.error if np.isfinite(found.on_choosing.error) else allowed
        return min(FILL * allowed, allowed - CLEAR * error)

    def _fits(self, found: Found, allowed: float) -> bool:
        return bool(found.on_choosing.value <= max(self._room(found, allowed), 0.0))

    def _saturated(self, found: Found) -> bool:
        """Whether no level would give a cheaper choice."""
        free = self.choose(float("1e30"))
        return free is not None and free[2] >= found.cost * 0.999

    # --- proving ----------------------------------------------------------------------------------------------

    def prove(self, candidates: Sequence[Found], allowed: float) -> Found | None:
        """The cheapest candidate whose rise on the other samples is within the budget beyond doubt.

        One that is not makes room for one that was predicted to rise by less.
        """
        task, left = self.task, list(candidates)
        progress("proof on samples that chose nothing")
        before = self.judge.scores(task.original, task.split.verify)  # exact: batches change nothing
        needed: list[int] = []
        while left and self.outcome.attempts < ATTEMPTS:
            found = left[0]
            self.outcome.attempts += 1
            program = task.target.lower(found.model)
            runs = [self.judge.scores(program, task.split.verify, b) for b in sorted({1, self.batch})]
            proofs = [self.judge.evidence(before, after, task.split.verify) for after in runs]
            attempt = self.outcome.attempts
            found.proof = max(proofs, key=lambda proof: proof.upper(attempt))
            if found.proof.upper(attempt) <= allowed:
                return found
            count = found.proof.samples_needed(allowed, attempt)
            if count is not None:
                needed.append(count * self.samples // len(task.split.verify))
            level = found.level * self._tighten(found.proof.upper(attempt), allowed)
            left = self._within(level) or [f for f in left if f.level <= level]
        if needed:
            self.outcome.notes.append(
                f"a faster program looked good enough, but {len(task.split.verify)} samples do not resolve a budget of "
                f"{allowed:g}: about {min(needed)} calibration samples would"
            )
        return None

    def _tighten(self, upper: float, allowed: float) -> float:
        """What part of the predicted rise of a choice that was not proved the next one may have."""
        if self.task.budget.metric is not None or not np.isfinite(upper):
            return TIGHTEN
        return float(np.clip(0.8 * self.in_units(allowed) / self.in_units(upper), TIGHTEN, 0.8))

    def _within(self, level: float) -> list[Found]:
        picked = self.choose(level)
        if picked is None or not picked[0]:
            return []
        found = self.measure(*picked)
        self.outcome.tried.append(found)
        return [found]


def _halves(seen: Sequence[Seen]) -> tuple[Sequence[Seen], Sequence[Seen]]:
    """What forms are fitted to, and what their error is predicted on: a range fits the samples that gave it."""
    if len(seen) < 2:
        return seen, seen
    return seen[::2], seen[1::2]
