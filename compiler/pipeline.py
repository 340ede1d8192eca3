"""The compiler from one end to the other, in the order in which things happen.

trace → IR → distinct blocks → e-graph → price → choose → verify → ONNX Runtime
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from . import report as reports
from .errors import TamagoError
from .facts import Array
from .files import file_bytes
from .front import points_of
from .main_line import Clock, MainLine
from .options import Options
from .scratch import scratch
from .store import Store
from .streaming import is_too_large, loaded, to_keep

if TYPE_CHECKING:
    from .approximate.account import Approximation
    from .approximate.budget import Budget
    from .backend import Backend, Runnable
    from .trace import Traced
    from .within_budget import Request

BUDGETED_SECONDS = 20.0  # of measuring before a budget is spent: every approximate program is made of what is found


@dataclass
class Compiled:
    """The pipeline's result.

    Args:
        model: the program that won; the original when nothing was gained.
        program: the model as a session.
        report: what was done and why.
    """

    model: ir.Model
    program: Runnable
    report: reports.Report


def compile_traced(
    traced: Traced, feeds: Mapping[str, Array] | None = None, request: Request | None = None, **options: Any
) -> Compiled:
    """Optimise a traced model for a target, verify it, and return the faster of it and the original.

    Args:
        traced: from `trace`; its model is not changed.
        feeds: inputs to verify and time on; made up when None.
        request: an error budget and what it is judged on; None: exact rewrites only.
        options: fields of `Options`.

    Raises:
        TamagoError: U0xx options, B0xx the target cannot run the model, V001 the check failed.
    """
    return compile_front(traced, feeds, request, (), **options)[-1]


def checked(budget: Budget | None, **options: Any) -> Options:
    """What is asked for, found to make sense before any work is done.

    Raises:
        TamagoError: U0xx options, U050 methods, U052 what no budget can be spent on.
    """
    from ..rewrites import chosen_by_name

    chosen = Options(**options)
    chosen.check()
    if chosen.methods is not None:
        chosen_by_name(chosen.methods)
    if budget is not None:
        require_budget(budget)
        chosen.check_budget(budget)
    return chosen


def require_budget(given: object) -> None:
    """Raise U043 for a bare number and the like."""
    from .approximate.budget import Budget

    if not isinstance(given, Budget):
        raise TamagoError("U043", f"budget is {given!r}", todo="write budget=tamago.Budget(loss=…, rise=0.01)")


def compile_front(
    traced: Traced, feeds: Mapping[str, Array] | None, request: Request | None, rises: Sequence[float], **options: Any
) -> list[Compiled]:
    """The exact program and then, for each bound from the tightest on, the program within it that beats all before.

    Args:
        traced: from `trace`; its model is not changed.
        feeds: inputs to verify and time on; made up when None.
        request: an error budget and what it is judged on; None: exact rewrites only.
        rises: bounds in the place of the budget's own; none: that one.
        options: fields of `Options`.

    Raises:
        TamagoError: see `compile_traced`; U052: what no budget can be spent on.
    """
    from ..rewrites import all_rules

    chosen = checked(None if request is None else request.budget, **options)
    if chosen.target == "web":
        chosen = replace(chosen, measure=False)
    clock = Clock()
    original = traced.model
    with _store(chosen) as store, scratch(store.folder if is_too_large(original) else None):
        target = _target(chosen, store)
        if request is not None:
            from .within_budget import tried

            tried(request, original, target)
        line = MainLine(original, feeds, chosen, target, store, clock, all_rules())
        seconds = target.search_seconds if request is None else max(target.search_seconds, BUDGETED_SECONDS)
        try:
            found = line.in_single(seconds, budgeted=request is not None) or line.once(seconds)
        except TamagoError as reason:
            if reason.code != "V001" or chosen.drift == "none":
                raise
            # Some models amplify rounding: what reorders their arithmetic is left out, and the report says so.
            found = line.bit_identical().once(seconds)
            found.notes.append(
                f"only bit-identical rules were used: with the others, {reason.where} had a {reason.why}"
            )
        model, outcome, decision = found.model, found.outcome, found.decision
        before, after = reports.Figures.of(original), reports.Figures.of(model)
        report = reports.Report(
            before=before,
            after=after if decision.won else before,
            verdict=decision.verdict,
            environment=target.environment,
            outcome=outcome,
            notes=[*traced.notes, *found.notes, *decision.notes, *filter(None, [decision.program.note])],
            error=max(decision.errors.values(), default=0.0),
            errors=decision.errors,
            timing=decision.timing,
            seconds=clock.seconds,
            stages=clock.stages,
            options=chosen.as_dict(),
        )
        compiled = Compiled(model if decision.won else original, to_keep(decision.program), report)
        if request is None:
            return [compiled]
        # Forms find more places in what rewriting made of the model, also where it is no faster by itself.
        start = found.start if decision.verified else compiled.model
        front = _approximate(request, rises, original, start, compiled, chosen, target, store, clock, found.single)
        if len(front) > 1 or chosen.drift == "none" or not _is_slower(compiled.report.approximation):
            return front
        # What is stored otherwise may keep the runtime from fusing what rewriting made: fewer rules make other places.
        plain = line.bit_identical().once(target.search_seconds, single=found.single)
        if not plain.decision.verified:
            return front
        again = replace(compiled, report=replace(report, outcome=plain.outcome))
        _, *better = _approximate(
            request, rises, original, plain.start, again, chosen, target, store, clock, found.single
        )
        return [replace(compiled, report=replace(again.report, outcome=report.outcome)), *better]


def _is_slower(account: Approximation | None) -> bool:
    """Whether a smaller program was found and turned out to be slower than the original."""
    from .approximate.gain import SLOWER

    return account is not None and any(SLOWER in reason for _, _, reason in account.refused)


def _approximate(
    request: Request,
    rises: Sequence[float],
    original: ir.Model,
    start: ir.Model,
    exact: Compiled,
    options: Options,
    target: Backend,
    store: Store,
    clock: Clock,
    halves: bool,
) -> list[Compiled]:
    """The exact program, then those within each budget that are cheaper than all before them."""
    from ..rewrites import chosen_by_name
    from .within_budget import approximate, ever_cheaper

    size = options.objective == "size"
    results = approximate(
        request,
        original,
        start,
        exact.model,
        target,
        *chosen_by_name(options.methods),
        store,
        size=size,
        portable=options.portable,
        until=clock.until(options.time_limit),
        rises=sorted(rises),
        halves=halves,
    )
    clock.stage("approximate")
    exact.report.seconds = clock.seconds
    exact.report.approximation, exact.report.explanation = results[-1].account.without(), results[-1].explanation
    front = [exact]
    for result in ever_cheaper(results, float(file_bytes(exact.model)) if size else float("inf"), size=size):
        assert result.model is not None  # else it is the exact program
        report = replace(
            exact.report,
            after=reports.Figures.of(result.model),
            verdict="smaller within the budget" if size else "faster within the budget",
            timing=None,  # the exact program's; this one's are its workloads'
            errors=result.errors,
            error=max(result.errors.values(), default=0.0),
            approximation=result.account,
            explanation=result.explanation,
        )
        front.append(Compiled(result.model, to_keep(result.program), report))
    if len(rises) > 0:
        points = points_of(front)
        for compiled in front:
            compiled.report.front = points
    return front


def round_weights(model: ir.Model, bits: int, block: int) -> int:
    """Every product's weight in few bits, in place, because the owner says so; how many there were."""
    from ..rewrites.quantization.packed_weights import pack_weights

    return pack_weights(model, bits, block)


def run_as_it_is(model: ir.Model, options: Options, *, held: bool = True) -> Compiled:
    """A model ready to run, nothing searched or changed.

    Args:
        model: what to run.
        options: the owner's.
        held: False: it is run a few times only, and a large one need not be in memory for that.

    Raises:
        TamagoError: B001 the target cannot run it, B003 it does not fit in memory.
    """
    options.check()
    with _store(options) as store:
        target = _target(options, store)
        figures = reports.Figures.of(model)
        program = target.lower(model)
        notes = [*filter(None, [program.note])]
        report = reports.Report(
            figures, figures, "as it is", target.environment, notes=notes, options=options.as_dict()
        )
        return Compiled(model, loaded(program) if held else program, report)


def tune_as_it_is(
    model: ir.Model, feeds: Mapping[str, Array], seconds: float, options: Options
) -> tuple[str, list[str]]:
    """Measure forms of a model's kernels, nothing searched or changed; the device, and what there is to say."""
    options.check()
    with _store(options) as store:
        target = _target(options, store)
        return target.environment, target.tune(model, feeds, seconds)


@contextmanager
def _store(options: Options) -> Generator[Store]:
    """The caller's open store, left open; or the one at a path, closed again."""
    if isinstance(options.store, Store):
        yield options.store
        return
    with Store.open(options.store) as store:
        yield store


def _target(options: Options, store: Store) -> Backend:
    if options.target == "cuda":
        from ..backends.triton.run import require_gpu

        require_gpu()
        from ..backends.triton.target import Cuda

        return Cuda(store, options.portable)
    from ..backends.onnxruntime.target import OnnxRuntime

    processor = OnnxRuntime(options.threads, options.portable)
    if options.target in ("webgpu", "web"):
        from ..backends.webgpu.target import WebGpu

        return WebGpu(None, store, processor) if options.target == "web" else WebGpu.of_default_device(store, processor)
    return processor
