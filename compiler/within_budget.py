"""From the exact program to the cheapest one within the owner's budget, or the exact program again, said plainly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import onnx_ir as ir

from .approximate.account import Approximation, explain, tries
from .approximate.budget import Budget, Workload
from .approximate.calibration import Sample, blamed_on, left_unread, read_samples, split, without_repeats
from .approximate.gain import FASTER
from .approximate.judge import as_tensors
from .approximate.losses import loss_model
from .approximate.method import Method
from .approximate.preparation import Preparation
from .approximate.repair import Repair
from .approximate.search import Search
from .approximate.stack import examples, takes_batches
from .approximate.structure import Structure
from .approximate.task import Task
from .code_pairs import in_doubt
from .deadline import OutOfTime, ended_by
from .errors import TamagoError
from .facts import Array
from .files import file_bytes
from .ir import with_distinct_names
from .streaming import Streaming, is_too_large
from .verify import compare
from .written_out import written_out

CHOOSING = 0.7  # of the time that is left: the rest is for the proof
WIDE = (
    "its products of 8-bit codes are for processors that add them in 32 bits, as this one does (x86 from VNNI on, "
    "Arm): for others compile there, or with portable=True"
)


@dataclass(frozen=True)
class Request:
    """What the owner asks for beyond the exact program.

    Args:
        budget: what is allowed.
        calibration: yields (inputs, target).
        workloads: what latency is judged on; empty: the first sample that chooses.
        flatten: inputs as the model takes them → arrays by graph input.
        structure: the graph's outputs as the owner's functions take them.
    """

    budget: Budget
    calibration: Iterable[Any]
    workloads: Sequence[Workload]
    flatten: Callable[[Any], Mapping[str, Array]]
    structure: Callable[[Sequence[Any]], Any]

    @cached_property
    def samples(self) -> list[Sample]:
        """Read once: a second search may not be able to."""
        return without_repeats(self._given)

    @cached_property
    def _given(self) -> list[Sample]:
        return read_samples(self.calibration, self.flatten)

    @property
    def notes(self) -> list[str]:
        """What the report should say of the samples."""
        given, used = len(self._given), len(self.samples)
        repeated = f"all of the {given} samples are repeated: {used} are used, one of each" if used < given else ""
        return [*filter(None, [left_unread(self.calibration, self._given), repeated])]


@dataclass(frozen=True)
class Result:
    """The program that won, None where the exact one stays; what was done, and each output's relative error."""

    model: ir.Model | None
    program: Any
    account: Approximation
    explanation: list[str]
    errors: dict[str, float] = field(default_factory=dict[str, float])

    def cost(self, *, size: bool) -> float:
        """Bytes of the file, or milliseconds over the workloads."""
        if self.model is not None and size:
            return float(file_bytes(self.model))
        return sum(w.weight * w.result for w in self.account.workloads)


def approximate(
    request: Request,
    original: ir.Model,
    exact: ir.Model,
    otherwise: ir.Model,
    target: Any,
    methods: Sequence[Method],
    preparations: Sequence[Preparation],
    structures: Sequence[Structure],
    repairs: Sequence[Repair],
    store: Any,
    *,
    size: bool,
    portable: bool,
    until: float,
    rises: Sequence[float] = (),
    halves: bool = False,
) -> list[Result]:
    """Search, prove, time: one result, or one for each of the rises, from the same tables.

    Args:
        request: budget and samples.
        original: as it was given; every measurement is paired with it.
        exact: what exact rewriting made of it.
        otherwise: what is returned where nothing approximate is.
        target: where it runs.
        methods: all that may be used at places.
        preparations: what is done to the exact program first, where milliseconds count and its weights fit into memory.
        structures: all that may be done to the whole program first.
        repairs: all that may be done to the chosen program last.
        store: keeps costs.
        size: minimise bytes instead of milliseconds.
        portable: no operators outside ONNX.
        until: `time.perf_counter` after which the search finishes what it has; of a model that is not held in memory
            it has the result, or the exact one, by then.
        rises: bounds that take the place of the budget's own.
        halves: the exact program computes in single precision what the original does in half.
    """
    exact = with_distinct_names(written_out(exact))
    parts = split(request.samples, metric=request.budget.metric is not None)
    workloads = list(request.workloads) or [Workload(parts.choose[0].feeds)]
    reference = target.lower(original)
    task = Task(
        reference,
        exact,
        parts,
        request.budget,
        size,
        workloads,
        methods,
        target,
        store,
        request.structure,
        max(examples(Sample(w.feeds, None)) for w in workloads) if takes_batches(exact.graph) else 1,
        portable,
        _chosen_until(until) if isinstance(reference, Streaming) else until,
        until,
        structures,
        file_bytes(otherwise),
        repairs,
        () if size or isinstance(reference, Streaming) else preparations,
        halves,
    )
    search = Search(task)
    try:
        search.prepare()
    except (KeyboardInterrupt, OutOfTime) as stop:
        said = request.budget.describe(), request.budget.allowed
        account = Approximation(*said, search.loss.kind, parts.chosen, len(parts.verify))
        account.notes += [*request.notes, f"{ended_by(stop)} before anything was chosen: the result is exact"]
        return [Result(None, None, account, [])]
    results = [_result(search.at(budget), request.notes) for budget in request.budget.bounds(rises)]
    return with_wider(results, size=size)


def with_wider(results: Sequence[Result], *, size: bool) -> list[Result]:
    """Each bound's result, or that of a wider bound which was proved to keep the narrower one, and is cheaper.

    Args:
        results: from the narrowest bound to the widest.
        size: bytes count, not milliseconds.
    """
    found = list(results)
    for i in reversed(range(len(found) - 1)):
        own, wider = found[i], found[i + 1]
        upper, said = wider.account.upper, own.account
        if wider.model is None or upper is None or upper > said.allowed:
            continue
        if own.model is None or wider.cost(size=size) < FASTER * own.cost(size=size):
            found[i] = replace(wider, account=replace(wider.account, budget=said.budget, allowed=said.allowed))
    return found


def ever_cheaper(results: Sequence[Result], least: float, *, size: bool) -> list[Result]:
    """Those that cost less than all before them.

    One program found for two bounds is timed twice, and buys nothing the second time whatever the clock says.

    Args:
        results: from the narrowest bound to the widest.
        least: what the exact program costs; infinite where it is not to be beaten again.
        size: bytes count, not milliseconds.
    """
    found: list[Result] = []
    for result in results:
        cost = float("inf") if result.model is None else result.cost(size=size)
        if cost >= least or any(result.account.made_of == other.account.made_of for other in found):
            continue
        least = cost
        found.append(result)
    return found


def tried(request: Request, original: ir.Model, target: Any) -> None:
    """Let the owner's samples and loss fail at once, not when minutes are spent: one sample is run and judged.

    Raises:
        TamagoError: U044, U045, the samples; U046, the loss.
    """
    import torch

    first, budget = request.samples[0], request.budget
    if budget.metric is not None or is_too_large(original):
        return
    try:
        outputs = as_tensors(target.lower(original)(first.feeds))
    except TamagoError:  # the main line says it of a model that does not run
        return
    if not all(isinstance(o, torch.Tensor) for o in outputs):
        return
    loss = loss_model(budget, request.structure, outputs, first)  # calls what the owner wrote
    if loss.function is None and not loss.needs_original:
        with blamed_on(first):
            loss.value(outputs, first.target)


def _chosen_until(limit: float) -> float:
    """When choosing ends, for a proof whose passes take their time as well."""
    now = time.perf_counter()
    return now + CHOOSING * (limit - now)


def _result(search: Search, notes: Sequence[str]) -> Result:
    task, outcome = search.task, search.solve()
    account = Approximation(
        task.budget.describe(),
        task.budget.allowed,
        search.loss.kind,
        task.split.chosen,
        len(task.split.verify),
        refused=outcome.refused,
        attempts=outcome.attempts,
        tried=tries(outcome),
        notes=[*notes, *outcome.notes],  # what is said of this result only
        variants=outcome.variants,
    )
    found = outcome.found
    if found is None or found.proof is None:
        return Result(None, None, account, explain(outcome, timed=task.target.timed))
    account.workloads = list(found.times)
    account.predicted, account.on_choosing, account.proof = found.predicted, found.on_choosing, found.proof
    account.upper = found.proof.upper(found.attempt)
    account.choice, account.structure, account.repair = found.choice, found.tables.structure, found.repair
    model = found.build()
    program, feeds = task.target.lower(model), task.split.verify[0].feeds
    names = [output.name or "" for output in model.graph.outputs]
    errors = {d.name: d.error for d in compare(names, task.original(feeds), program(feeds))}
    if task.target.sums_are_wide and in_doubt(model):
        account.notes.append(WIDE)
    return Result(model, program, account, explain(outcome, timed=task.target.timed), errors)
