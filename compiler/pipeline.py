"""The compiler from one end to the other, in the order in which things happen.

trace → IR → distinct blocks → e-graph → price → choose → verify → ONNX Runtime
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from . import report as reports
from .errors import EXIT_UNSUPPORTED, TamagoError
from .facts import Array
from .garbage import model_set_aside
from .inference import infer
from .ir import weight_bytes
from .observe import Observer
from .opset import to_target
from .optimise import Outcome, Settings, optimise
from .prepare import forget_untyped_shapes, prepare
from .price import Prices
from .rule import Drift
from .saturate import Limits
from .sizes import sizes_of
from .store import Store
from .verify import allow_noise, compare, fits_declaration, require, trials

if TYPE_CHECKING:
    from .backend import Backend, Runnable
    from .trace import Traced
    from .within_budget import Request

TARGETS = ("cpu", "cuda", "webgpu", "web")  # web: a device that only a browser will know
COMPARE_SECONDS = 3.0
TUNE_SECONDS = 30.0  # for the kernels of a whole model
VERIFY_SECONDS = 2.0  # no further inputs are made up after this
MADE_UP = 3  # inputs that are enough for a verdict
NOISE = 0.02  # how much the ratio of the fastest samples may contradict the median
NO_SLOWER = 1.0  # the new program must win its interleaved comparison, or the original is returned


@dataclass(frozen=True)
class Options:
    """What the owner allows and asks for; see `tamago.compile`."""

    target: str = "cpu"
    drift: Drift = "rounding"
    objective: Literal["latency", "size"] = "latency"
    threads: int | None = None
    keep: tuple[str, ...] = ()
    portable: bool = False
    time_limit: float | None = None
    store: Any = None
    measure: bool = True
    methods: tuple[str, ...] | None = None
    strict: bool = False
    limits: Limits = field(default_factory=Limits)

    def as_dict(self) -> dict[str, Any]:
        """What the report records."""
        return {k: v for k, v in vars(self).items() if k not in ("store", "limits", "strict")}

    def check(self) -> None:
        """Raise U0xx for values that make no sense."""
        if self.target not in TARGETS:
            raise TamagoError(
                "U001",
                f"target {self.target!r} is not built",
                todo=f"use one of: {', '.join(TARGETS)}",
                exit_code=EXIT_UNSUPPORTED,
            )
        if self.drift not in ("none", "rounding"):
            raise TamagoError("U002", f"drift {self.drift!r} is unknown", todo='use "none" or "rounding"')
        if self.objective not in ("latency", "size"):
            raise TamagoError("U003", f"objective {self.objective!r} is unknown", todo='use "latency" or "size"')
        if self.threads is not None and self.threads < 1:
            raise TamagoError("U004", f"threads is {self.threads}", todo="use a number from 1")
        if self.time_limit is not None and self.time_limit <= 0:
            raise TamagoError("U005", f"time_limit is {self.time_limit}", todo="use a number of seconds above 0")
        if self.methods is not None:
            from ..rewrites import chosen_by_name

            chosen_by_name(self.methods)


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
        TamagoError: see `compile_traced`; U051, a budget for a target that has no approximate kernels.
    """
    chosen = Options(**options)
    chosen.check()
    if chosen.target == "web":
        chosen = replace(chosen, measure=False)
    if request is not None and chosen.target != "cpu":
        why = "the approximate methods have no kernels there yet"
        todo = "compile exactly for it, or use target 'cpu'"
        what = f"no budget for target '{chosen.target}'"
        raise TamagoError("U051", what, why=why, todo=todo, exit_code=EXIT_UNSUPPORTED)
    clock = _Clock()
    with _store(chosen) as store:
        target = _target(chosen, store)
        original = traced.model
        try:
            model, outcome, decision, notes = _attempt(original, feeds, chosen, target, store, clock)
        except TamagoError as reason:
            if reason.code != "V001" or chosen.drift == "none":
                raise
            # Some models amplify rounding: what reorders their arithmetic is left out, and the report says so.
            model, outcome, decision, notes = _attempt(
                original, feeds, replace(chosen, drift="none"), target, store, clock
            )
            notes.append(f"only bit-identical rules were used: with the others, {reason.where} had a {reason.why}")
        before, after = reports.Figures.of(original), reports.Figures.of(model)
        report = reports.Report(
            before=before,
            after=after if decision.won else before,
            verdict=decision.verdict,
            environment=target.environment,
            outcome=outcome,
            notes=[*traced.notes, *notes, *decision.notes, *filter(None, [decision.program.note])],
            error=max(decision.errors.values(), default=0.0),
            errors=decision.errors,
            timing=decision.timing,
            seconds=clock.seconds,
            stages=clock.stages,
            options=chosen.as_dict(),
        )
        compiled = Compiled(model if decision.won else original, decision.program, report)
        if request is None:
            return [compiled]
        # Forms find more places in what rewriting made of the model, also where it is no faster by itself.
        start = model if decision.verified else compiled.model
        return _approximate(request, rises, original, start, compiled, chosen, target, store, clock)


def _approximate(
    request: Request,
    rises: Sequence[float],
    original: ir.Model,
    start: ir.Model,
    exact: Compiled,
    options: Options,
    target: Backend,
    store: Store,
    clock: _Clock,
) -> list[Compiled]:
    """The exact program, then those within each budget that are cheaper than all before them."""
    from ..rewrites import chosen_by_name
    from .within_budget import approximate

    until = float("inf") if options.time_limit is None else time.perf_counter() + options.time_limit - clock.seconds
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
        until=until,
        rises=sorted(rises),
    )
    clock.stage("approximate")
    exact.report.seconds = clock.seconds
    exact.report.approximation, exact.report.explanation = results[-1].account, results[-1].explanation
    front, least = [exact], float(weight_bytes(exact.model)) if size else float("inf")
    for result in results:
        if result.model is None or result.cost(size=size) >= least:
            continue
        least = result.cost(size=size)
        report = replace(
            exact.report,
            after=reports.Figures.of(result.model),
            verdict="smaller within the budget" if size else "faster within the budget",
            approximation=result.account,
            explanation=result.explanation,
        )
        front.append(Compiled(result.model, result.program, report))
    return front


def _attempt(
    original: ir.Model,
    feeds: Mapping[str, Array] | None,
    options: Options,
    target: Backend,
    store: Store,
    clock: _Clock,
) -> tuple[ir.Model, Outcome, _Decision, list[str]]:
    """The main line once: IR, optimised, verified, decided."""
    model, notes = _to_ir(original, options)
    clock.stage("prepare")
    with model_set_aside():
        outcome = _optimise(model, feeds, options, target, store, clock)
    forget_untyped_shapes(model)
    model, finished = target.finish(model, feeds)
    notes += finished
    clock.stage("optimise")
    changed = outcome.changed or outcome.folded > 0 or bool(notes)
    if options.measure and target.tunes:
        left = float("inf") if options.time_limit is None else options.time_limit - clock.seconds
        notes += target.tune(model, feeds, max(0.0, min(TUNE_SECONDS, left / 2)))
        clock.stage("tune")
    decision = _decide(original, model, feeds, target, options, clock, changed)
    clock.stage("verify and time")
    return model, outcome, decision, notes


def run_as_it_is(model: ir.Model, options: Options) -> Compiled:
    """A model ready to run, nothing searched or changed."""
    options.check()
    with _store(options) as store:
        target = _target(options, store)
        figures = reports.Figures.of(model)
        report = reports.Report(figures, figures, "as it is", target.environment, options=options.as_dict())
        return Compiled(model, target.lower(model), report)


def tune_as_it_is(
    model: ir.Model, feeds: Mapping[str, Array], seconds: float, options: Options
) -> tuple[str, list[str]]:
    """Measure forms of a model's kernels, nothing searched or changed; the device, and what there is to say."""
    options.check()
    with _store(options) as store:
        target = _target(options, store)
        return target.environment, target.tune(model, feeds, seconds)


class _Clock:
    """Seconds since the start and of each stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.stages: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self._last = now


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


def _to_ir(original: ir.Model, options: Options) -> tuple[ir.Model, list[str]]:
    """A copy of the model that satisfies the IR's invariants."""
    model = original.clone()
    notes = prepare(model, options.keep)
    notes += to_target(model)
    infer(model)
    return model, notes


def _optimise(
    model: ir.Model,
    feeds: Mapping[str, Array] | None,
    options: Options,
    target: Backend,
    store: Store,
    clock: _Clock,
) -> Outcome:
    from ..rewrites import all_rules

    until = float("inf")
    if options.time_limit is not None:
        until = time.perf_counter() + max(0.0, options.time_limit * 0.6 - clock.seconds)
    version = model.opset_imports.get("", 1)
    sizes = sizes_of(model.graph, feeds)
    settings = Settings(
        rules=(*all_rules(), *target.rules()),
        drift=options.drift,
        limits=options.limits,
        seconds=target.search_seconds,
        until=until,
        target=target if options.measure else None,
        observe=None if feeds is None else Observer(model, feeds, target.lower),
        made_up=not sizes,
        strict=options.strict,
    )
    measure = (lambda site: target.price(site, version)) if options.measure else None
    prices = Prices(store, target.environment, measure, target.preferences, sizes, target.settled, target.estimate)
    return optimise(model, settings, prices, infer)


@dataclass
class _Decision:
    """Which program is returned and why; whether the new one was found equal, returned or not."""

    won: bool
    program: Runnable
    verdict: str
    errors: dict[str, float] = field(default_factory=dict[str, float])
    timing: reports.Comparison | None = None
    notes: list[str] = field(default_factory=list[str])
    verified: bool = False


def _decide(
    original: ir.Model,
    model: ir.Model,
    feeds: Mapping[str, Array] | None,
    target: Backend,
    options: Options,
    clock: _Clock,
    changed: bool,
) -> _Decision:
    """Verify the new program against the original, then let an interleaved timing choose between them."""
    # One after the other: two threads that both touch new memory wait for each other's page faults.
    reference = target.lower(original)  # what the runtime cannot run at all cannot be verified: an error
    try:
        program = target.lower(model)
    except TamagoError as reason:
        note = f"the optimised graph does not load, so the original is kept: {reason.why}"
        return _Decision(False, reference, "no gain", notes=[note])
    believed = reference if target.believed is target else target.believed.lower(original)
    errors, trial = _verify(target, original, believed, program, feeds)
    if trial is None:
        note = "the original could not be run on made-up inputs: nothing was verified, so it is kept; pass args"
        return _Decision(False, reference, "not verified", notes=[note])
    if not changed:
        note = "no rule found anything to improve"
        return _Decision(False, reference, "no gain", notes=[note], verified=True)
    if not options.measure:
        return _Decision(True, program, "not timed", errors, verified=True)
    if options.objective == "size":
        after, before = reports.Figures.of(model).bytes, reports.Figures.of(original).bytes
        verdict = "smaller" if after < before else "no larger" if after == before else "no gain"
        kept = program if after <= before else reference
        return _Decision(after <= before, kept, verdict, errors, verified=True)
    timing = _compare_times(target, reference, program, trial, options, clock)
    won = timing.ratio >= NO_SLOWER and timing.best_ratio >= NO_SLOWER - NOISE
    return _Decision(
        won, program if won else reference, "faster" if won else "no gain", errors if won else {}, timing, verified=True
    )


def _verify(
    target: Backend, original: ir.Model, reference: Runnable, program: Runnable, feeds: Mapping[str, Array] | None
) -> tuple[dict[str, float], Mapping[str, Array] | None]:
    """The largest error of each output over all inputs tried, and the first inputs that ran."""
    errors: dict[str, float] = {}
    first: Mapping[str, Array] | None = None
    ran, start = 0, time.perf_counter()
    for made in trials(original.graph, feeds):
        trial = made if target.forgives else _without_risk(made, feeds)
        wanted, found = _run_both(reference, program, trial, target.runs_side_by_side)
        if wanted is None or not fits_declaration(original.graph, wanted):
            continue
        first, ran = trial if first is None else first, ran + 1
        differences = compare(reference.outputs, wanted, found)
        if not all(d.passed for d in differences):
            plain = target.believed.lower(original, optimise=False)(trial)
            differences = allow_noise(differences, compare(reference.outputs, wanted, plain))
        require(differences)
        for d in differences:
            errors[d.name] = max(errors.get(d.name, 0.0), d.error)
        if ran == MADE_UP or (ran > 1 and time.perf_counter() - start > VERIFY_SECONDS):
            break
    return errors, first


def _without_risk(made: Mapping[str, Array], feeds: Mapping[str, Array] | None) -> Mapping[str, Array]:
    """Made-up inputs with the caller's own integers, or zeros: what is an index must be in range."""

    def safe(name: str, array: Array) -> Array:
        if np.asarray(array).dtype.kind not in "iu":
            return array
        given = (feeds or {}).get(name)
        return given if given is not None and np.shape(given) == np.shape(array) else np.zeros_like(array)

    return {name: safe(name, array) for name, array in made.items()}


def _run_both(
    reference: Runnable, program: Runnable, feeds: Mapping[str, Array], side_by_side: bool
) -> tuple[Any, Any]:
    """The outputs of both, side by side where they may: here time is not what is asked."""
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(program, feeds) if side_by_side else None
        try:
            wanted = reference(feeds)
        except TamagoError:
            return None, None  # made-up inputs that the model itself does not take say nothing about the result
        return wanted, program(feeds) if running is None else running.result()


def _compare_times(
    target: Backend,
    reference: Runnable,
    program: Runnable,
    feeds: Mapping[str, Array],
    options: Options,
    clock: _Clock,
) -> reports.Comparison:
    from .timing import paired_ratio

    limit = options.time_limit
    seconds = COMPARE_SECONDS if limit is None else max(1.0, min(COMPARE_SECONDS, limit - clock.seconds))
    before, after = target.time_programs([reference, program], feeds, seconds=seconds)
    ratio, low, high = paired_ratio(before, after)
    rounds = len(before.samples)
    return reports.Comparison(
        before.median, before.spread, after.median, after.spread, ratio, low, high, before.best / after.best, rounds
    )
