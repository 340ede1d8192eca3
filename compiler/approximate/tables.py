"""Every form of every place of one program: what it costs, what it raises, and the best choice among all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..beside import Turns, at_once, each, runs_at_once
from ..deadline import OutOfTime
from ..errors import TamagoError
from ..facts import Array
from ..ir import graphs, weights
from ..mapped import let_go
from ..progress import progress
from ..rule import Skip
from ..streaming import Streaming, outputs_for_each
from .budget import Budget
from .calibration import Sample
from .costs import FAILED, Costs, lowered
from .forms import exact_form
from .knapsack import Limits, Option, knapsack
from .losses import LossModel
from .method import Form, Inputs, Method
from .places import Place, find_places, find_weights
from .predicted import Predicted, jointly, predicted
from .responses import ONE, Draws, Response, Seen, samples_to_see
from .stack import examples, stacked, together
from .taken_branches import taken_branches
from .taps import samples_at_once
from .task import Alternative, Choice, Task
from .write import Chosen, put

if TYPE_CHECKING:
    import torch

STORING = ("stored_weights",)  # methods that change what is stored and not what runs

SMALL = 1024  # rows and columns of matrices that linear algebra is as fast with on one thread, or nearly
LOOKING = 0.6  # of the time for choosing, where a run takes a pass over a large model's weights
NO_TIME = "no time was left to look at it"


class Tables:
    """The places of a program and their alternatives.

    Args:
        task: what is asked; its budget does not matter here, so one set of tables serves every budget.
        program: the exact program, or a variant of it.
        structure: what made the variant, empty for the exact program.
        base: the rise that the program itself was measured to have, in the units in which predictions add.
    """

    def __init__(self, task: Task, program: ir.Model, structure: str = "", base: float = 0.0) -> None:
        self.task = task
        self.program = program
        self.structure = structure
        self.base = base
        self.places = find_places(program.graph, wide=task.sums_are_wide)
        if task.size:
            self.places += find_weights(program.graph, self.places)
        self.methods: tuple[str, ...] = ()  # whose forms it is left with; none: all that may be used
        self._responses: dict[tuple[tuple[str, bool], ...], Response] = {}
        self.alternatives: list[list[Alternative]] = []
        self.refused: list[tuple[str, str, str]] = []
        self.exact_cost = 0.0
        self._forms: dict[tuple[str, str, str], Form] = {}
        self._told: dict[tuple[str, str, str], Predicted] = {}
        self._at_ends: dict[str, list[Seen]] = {}
        self._wanted: list[list[Array]] = []
        self._looked_at: list[Mapping[str, Array]] = []
        self._rest = 0.0  # milliseconds outside the places

    @property
    def side(self) -> int:
        """The longest of the weights' shorter sides: what is factorised has so many rows."""
        shapes = [p.shape for p in self.places]
        return max((min(s[0], prod(s[1:])) for s in shapes if s), default=0)

    def fill(self, loss: LossModel, batch: int) -> None:
        """Find every place's forms, their predicted rise and their measured cost.

        Args:
            loss: whose rise is predicted.
            batch: how many examples are run together.
        """
        task, seen = self.task, self._see(loss, batch)
        shapes = [self._response(w.feeds).shapes(w.feeds) for w in task.workloads]
        costs = Costs(task.target, task.store, [w.weight for w in task.workloads])
        until = self._looked_at_until()
        for number, place in enumerate(self.places):
            if time.perf_counter() > until:
                self.refused.append((place.name, "all", NO_TIME))
                continue
            progress(f"place {number + 1} of {len(self.places)}: {place.name}")
            name = place.y.name or ""
            if place.kind == "weight":
                self._look_at_weight(place)
                continue
            if name not in seen:
                self.refused.append((place.name, "all", "its values do not reach the loss"))
                continue
            # A place in a branch that a workload does not take costs it nothing.
            self.alternatives.append(self._table(place, seen[name], [s.get(name) for s in shapes], costs))

    def _looked_at_until(self) -> float:
        """When no further place is looked at: a choice whose runs take long wants time as well."""
        until, now = self.task.until, time.perf_counter()
        return now + LOOKING * (until - now) if isinstance(self.task.original, Streaming) else until

    def with_methods(self, names: Sequence[str]) -> Tables:
        """The same places with the forms of these methods only."""
        other = copy(self)
        other.methods = tuple(names)
        kept = {*names, "exact"}
        other.alternatives = [[a for a in table if a.method in kept] for table in self.alternatives]
        return other

    def price(self, milliseconds: float) -> None:
        """Say what the whole program takes over the workloads, no place changed."""
        placed = sum(table[0].cost for table in self.alternatives)
        self._rest = max(milliseconds - placed, 0.0)
        self.exact_cost = self._rest + placed

    def _see(self, loss: LossModel, batch: int) -> dict[str, list[Seen]]:
        import torch

        generator = torch.Generator().manual_seed(0)
        seen: dict[str, list[Seen]] = {}
        choose = self.task.split.choose
        half = max(sum(map(examples, choose)) // 2, 1)  # two groups at least: one to fit to, one to predict on
        groups = [stacked(g) or g[0] for g in together(choose, min(batch, half))]
        by_branches: dict[Response, list[Sample]] = {}
        number = 0
        for sample in groups:
            by_branches.setdefault(self._response(sample.feeds), []).append(sample)
        for response, samples in by_branches.items():
            looked_at, draws = samples_to_see(samples, response)
            self._looked_at += [sample.feeds for sample in looked_at]
            progress("gradients of the loss")
            alone = len(looked_at) == 1  # which then is what is predicted on, too
            look = partial(_see_one, response, loss, generator, Turns(), draws, alone)
            for of_places, of_ends in each(look, enumerate(looked_at), samples_at_once(self.program)):
                for kept, every in ((seen, of_places), (self._at_ends, of_ends)):
                    for name, found in every.items():
                        kept.setdefault(name, []).append(replace(found, number=number))
                number += 1
        for tensor in weights(self.program):
            let_go(tensor.numpy())
        return seen

    def _response(self, feeds: Mapping[str, Array]) -> Response:
        """The program as torch runs it, with the branches that these inputs take."""
        taken = taken_branches(self.program, feeds, self.task.target)
        if taken.decisions not in self._responses:
            places = [place for place in self.places if place.kind != "weight"]
            self._responses[taken.decisions] = Response(taken.program, places, taken.name, self._ends())
        return self._responses[taken.decisions]

    def _table(
        self, place: Place, seen: Sequence[Seen], shapes: Sequence[tuple[int, ...] | None], costs: Costs
    ) -> list[Alternative]:
        """The place's alternatives, the exact one first.

        All that is not timed is done for several forms at once.
        """
        exact = exact_form(place)
        fitted, seen = _halves(seen)
        produced = self._run(place, exact, fitted) or []
        offered = [("exact", exact), *self._offered(place, Inputs(tuple(s.x for s in fitted), tuple(produced)))]
        # What is only stored otherwise runs the same kernels once it is loaded: a timing would add noise.
        timed = {f"{method} {form.setting}": form for method, form in offered if method not in STORING}
        milliseconds = costs.of(place, timed, shapes)
        as_it_is = next(iter(milliseconds.values()))
        wanted = self._run(place, exact, seen)
        assert wanted is not None
        found: list[Alternative] = []

        def rise(form: Form) -> Predicted | None:
            if form is exact:
                return Predicted()
            outputs = self._run(place, form, seen)
            if outputs is None:
                return None
            return predicted(seen, [np.subtract(o, w) for o, w in zip(outputs, wanted, strict=True)])

        rises = each(rise, [form for _, form in offered], runs_at_once(self.task.original))
        for (method, form), told in zip(offered, rises, strict=True):
            cost = milliseconds.get(f"{method} {form.setting}", as_it_is)
            if told is None or cost == FAILED:
                self.refused.append((place.name, method, f"{form.setting}: the target does not run it"))
                continue
            name = place.y.name or ""
            self._forms[name, method, form.setting], self._told[name, method, form.setting] = form, told
            stored = 0 if form is exact else form.stored
            found.append(Alternative(name, method, form.setting, told.rise, cost, stored, told.scatter, form.beside))
        for _, form in offered:
            form.let_go()
        return found

    def _ends(self) -> list[str]:
        """Outputs that are looked at: where weights are judged by what they do to the whole program."""
        return [v.name or "" for v in self.program.graph.outputs] if self.task.size else []

    def _look_at_weight(self, place: Place) -> None:
        try:
            self.alternatives.append(self._weight_table(place))
        except OutOfTime:
            self.refused.append((place.name, "all", NO_TIME))

    def _weight_table(self, place: Place) -> list[Alternative]:
        """A weight's alternatives, predicted from what they do to the outputs."""
        exact, name = exact_form(place), place.name
        self._forms[name, "exact", exact.setting] = exact
        found = [Alternative(name, "exact", exact.setting, 0.0, 0.0, 0)]
        wanted = self._wanted = self._wanted or self._outputs(self.program)
        for method, form in self._offered(place, Inputs(())):
            try:
                outputs = self._outputs(self._put([place], {name: Chosen(method, form)}))
            except TamagoError:
                self.refused.append((name, method, f"{form.setting}: the target does not run it"))
                continue
            if all(
                np.array_equal(p, q) for a, b in zip(outputs, wanted, strict=True) for p, q in zip(a, b, strict=True)
            ):
                self.refused.append((name, method, f"{form.setting}: no sample shows what it does"))
                continue
            errors = [
                (self._at_ends[end], [np.subtract(p, q) for p, q in zip(a, b, strict=True)])
                for end, a, b in zip(self._ends(), outputs, wanted, strict=True)
                if end in self._at_ends
            ]
            of_each = [predicted(*e) for e in errors]
            # By itself to second order only, as it is chosen by; a program's forms together may count a mean change.
            told = replace(jointly(of_each), rise=sum(p.rise for p in of_each))
            self._forms[name, method, form.setting], self._told[name, method, form.setting] = form, told
            found.append(
                Alternative(name, method, form.setting, told.rise, 0.0, form.stored, told.scatter, form.beside)
            )
        return found

    def _outputs(self, model: ir.Model) -> list[list[Array]]:
        """Each output on every group of samples that was looked at."""
        program = self.task.target.lower(model)
        runs = list(outputs_for_each(program, self._looked_at))
        return [[np.atleast_1d(run[i]) for run in runs] for i in range(len(model.graph.outputs))]

    def _offered(self, place: Place, inputs: Inputs) -> list[tuple[str, Form]]:
        def forms_of(method: Method) -> list[Form] | str:
            try:
                return method.forms(place, inputs)
            except (Skip, np.linalg.LinAlgError) as reason:
                return str(reason)

        methods = [method for method in self.task.methods if place.kind in method.kinds]
        found: list[tuple[str, Form]] = []
        for method, forms in zip(methods, each(forms_of, methods, self._methods_at_once), strict=True):
            if isinstance(forms, str):
                self.refused.append((place.name, method.name, forms))
                continue
            lacking = self.task.lacking(frozenset[str]().union(*(form.operators for form in forms)))
            if lacking:
                self.refused.append(
                    (place.name, method.name, f"it needs what is not used here: {', '.join(sorted(lacking))}")
                )
            found += [(method.name, form) for form in forms if not form.operators & lacking]
        return found

    @property
    def _methods_at_once(self) -> int:
        """One where a large model's weights would be in memory several times, or linear algebra has its own threads."""
        return 1 if isinstance(self.task.original, Streaming) or self.side > SMALL else at_once(1)

    def _run(self, place: Place, form: Form, seen: Sequence[Seen]) -> list[Array] | None:
        rank = np.ndim(seen[0].x)
        try:
            dtype = ir.DataType.from_numpy(seen[0].x.dtype)
            program = lowered(self.task.target, form.term, dtype, rank, place.opset)
            return [np.asarray(program({"x": s.x})[0]) for s in seen]
        except TamagoError:
            return None

    def choose(
        self, level: float, budget: Budget, worth: float, *, risk: float = 0.0, slower: float = float("inf")
    ) -> Choice | None:
        """The cheapest choice within a level of predicted rise; None where no choice meets the caps.

        Args:
            level: of the whole: what the program itself rises by is part of it.
            budget: its caps on size and latency.
            worth: the rise that is as dear as a fixed part of the cost (see `Limits`).
            risk: the rise that is as dear as a scatter of one.
            slower: milliseconds over the workloads that the choice may not exceed where size is minimised.
        """
        size = self.task.size
        tabled = {table[0].place for table in self.alternatives}
        weights = {p.y.name or "": p.weight_value.name or "" for p in self.places if p.y.name in tabled}
        readers: Counter[ir.Value] = Counter()
        for place in self.places:
            readers[place.weight_value] += place.readers if place.y.name in tabled else 0
        sizes = {
            v.name or "": self._bytes[v] if len(v.uses()) == count else 0
            for v, count in readers.items()
            if v.const_value is not None
        }
        options = [
            [_option(a, risk, weights[a.place] if a.method == "exact" else None) for a in table]
            for table in self.alternatives
        ]
        fixed = self._fixed_bytes({name for name, size in sizes.items() if size})
        limits = Limits(max(level - self.base, 0.0), worth=worth)
        if budget.size is not None:
            limits = replace(limits, stored=budget.size - fixed)
        if size and self.task.target.timed:  # smaller, but never slower
            limits = replace(limits, cost=slower - self._rest)
        if budget.latency is not None:
            limits = replace(limits, cost=min(limits.cost, budget.latency - self._rest))
        picked = knapsack(options, sizes, limits, size=size)
        if picked is None:
            return None
        every = [table[i] for table, i in zip(self.alternatives, picked, strict=True)]
        taken = [o[i] for o, i in zip(options, picked, strict=True)]
        kept = {o.keeps for o in taken if o.keeps is not None}
        stored = float(sum(o.stored for o in taken) + sum(sizes[name] for name in kept)) + fixed
        cost = stored + sum(o.beside for o in taken) if size else sum(o.cost for o in taken) + self._rest
        changed = [a for a in every if a.method != "exact"]
        summed = self.base + sum(a.rise + risk * a.scatter for a in changed)
        return Choice(changed, self.base + self.together(changed).rise, summed, cost)

    def together(self, changed: Sequence[Alternative]) -> Predicted:
        """What these alternatives are predicted to do in one program."""
        return jointly([self._told[a.place, a.method, a.setting] for a in changed])

    def _fixed_bytes(self, placed: set[str]) -> int:
        """Bytes of the weights that no choice can do away with."""
        return sum(size for value, size in self._bytes.items() if value.name not in placed)

    @cached_property
    def _bytes(self) -> dict[ir.Value, int]:
        """What the file holds of each of the program's constants."""
        return {v: self.task.bytes_of(v) for g in graphs(self.program.graph) for v in g.initializers.values()}

    @property
    def weight_bytes(self) -> int:
        """What the file holds of the program's weights."""
        return sum(self._bytes.values())

    def build(self, choice: Sequence[Alternative]) -> ir.Model:
        """The program with these alternatives in place."""
        chosen = {a.place: Chosen(a.method, self._forms[a.place, a.method, a.setting]) for a in choice}
        return self._put(self.places, chosen)

    def _put(self, places: Sequence[Place], chosen: Mapping[str, Chosen]) -> ir.Model:
        return self.task.target.own(put(self.program, places, chosen))


def _see_one(
    response: Response,
    loss: LossModel,
    generator: torch.Generator,
    turns: Turns,
    draws: Draws,
    alone: bool,
    numbered: tuple[int, Sample],
) -> tuple[dict[str, Seen], dict[str, Seen]]:
    number, sample = numbered
    try:
        predicts = alone or number % 2 == 1  # see `_halves`
        return response.see(sample, loss, generator, turns.take(number), draws if predicts else ONE)
    finally:
        turns.end(number)


def _option(a: Alternative, risk: float, keeps: str | None) -> Option:
    return Option(a.cost, a.stored, a.rise + risk * a.scatter, keeps, a.beside)


def _halves(seen: Sequence[Seen]) -> tuple[Sequence[Seen], Sequence[Seen]]:
    """What forms are fitted to, and what their error is predicted on: a range fits the samples that gave it."""
    if len(seen) < 2:
        return seen, seen
    return seen[::2], seen[1::2]
