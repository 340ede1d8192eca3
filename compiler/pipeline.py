"""The compiler from one end to the other, in the order in which things happen.

trace → IR → distinct blocks → e-graph → price → choose → verify → ONNX Runtime
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import onnx_ir as ir

from . import report as reports
from .errors import EXIT_UNSUPPORTED, TamagoError
from .facts import Array
from .inference import infer
from .opset import to_target
from .optimise import Outcome, Settings, optimise
from .prepare import prepare
from .price import Prices
from .rule import Drift
from .saturate import Limits
from .store import Store
from .verify import compare, make_feeds, require

if TYPE_CHECKING:
    from ..backends.onnxruntime.run import Program
    from ..backends.onnxruntime.target import OnnxRuntime
    from .trace import Traced

TARGETS = ("cpu",)
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
    strict: bool = False
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raise U0xx for values that make no sense."""
        if self.target not in TARGETS:
            raise TamagoError(
                "U001", f"target {self.target!r} is not built", todo=f"use one of: {', '.join(TARGETS)}", exit_code=EXIT_UNSUPPORTED
            )
        if self.drift not in ("none", "rounding"):
            raise TamagoError("U002", f"drift {self.drift!r} is unknown", todo='use "none" or "rounding"')
        if self.objective not in ("latency", "size"):
            raise TamagoError("U003", f"objective {self.objective!r} is unknown", todo='use "latency" or "size"')
        if self.threads is not None and self.threads < 1:
            raise TamagoError("U004", f"threads is {self.threads}", todo="use a number from 1")
        if self.time_limit is not None and self.time_limit <= 0:
            raise TamagoError("U005", f"time_limit is {self.time_limit}", todo="use a number of seconds above 0")


@dataclass
class Compiled:
    """The pipeline's result.

    Args:
        model: the program that won; the original when nothing was gained.
        program: the model as a session.
        report: what was done and why.
    """

    model: ir.Model
    program: Program
    report: reports.Report


def compile_traced(traced: Traced, feeds: Mapping[str, Array] | None = None, **options: Any) -> Compiled:
    """Optimise a traced model for a target, verify it, and return the faster of it and the original.

    Args:
        traced: from `trace`; its model is not changed.
        feeds: inputs to verify and time on; made up when None.
        options: fields of `Options`.

    Raises:
        TamagoError: U0xx options, B0xx the target cannot run the model, V001 the check failed.
    """
    chosen = Options(**options)
    chosen.check()
    start = time.perf_counter()
    with ExitStack() as stack:
        store = stack.enter_context(_store(chosen))
        target = _target(chosen)
        original = traced.model
        model, notes = _to_ir(original, chosen)
        before = reports.Figures.of(original)
        outcome = _optimise(model, chosen, target, store, start)
        after = reports.Figures.of(model)
        result = _decide(original, model, feeds, target, chosen, start)
        report = reports.Report(
            before=before,
            after=after if result.won else before,
            outcome=outcome,
            notes=[*traced.notes, *notes, *result.notes],
            error=result.error,
            errors=result.errors,
            timing=result.timing,
            verdict=result.verdict,
            seconds=time.perf_counter() - start,
            environment=target.environment,
            options=chosen,
        )
        return Compiled(model if result.won else original, result.program, report)


def _store(options: Options) -> Store:
    if isinstance(options.store, Store):
        return options.store
    return Store.open(options.store)


def _target(options: Options) -> OnnxRuntime:
    from ..backends.onnxruntime.target import OnnxRuntime

    return OnnxRuntime(options.threads, options.portable)


def _to_ir(original: ir.Model, options: Options) -> tuple[ir.Model, list[str]]:
    """A copy of the model that satisfies the IR's invariants."""
    model = original.clone()
    notes = prepare(model, options.keep)
    notes += to_target(model)
    infer(model)
    return model, notes


def _optimise(model: ir.Model, options: Options, target: OnnxRuntime, store: Store, start: float) -> Outcome:
    from ..rewrites import all_rules

    seconds = 15.0 if options.time_limit is None else max(0.0, options.time_limit * 0.6 - (time.perf_counter() - start))
    version = model.opset_imports.get("", 1)
    settings = Settings(
        rules=(*all_rules(), *target.rules()),
        drift=options.drift,
        limits=options.limits,
        seconds=seconds,
        target=target if options.measure else None,
        strict=options.strict,
    )
    measure = (lambda site: target.price(site, version)) if options.measure else None
    return optimise(model, settings, Prices(store, target.environment, measure), infer)


@dataclass
class _Decision:
    won: bool
    program: Program
    error: float
    errors: dict[str, float]
    timing: reports.Comparison | None
    verdict: str
    notes: list[str]


def _decide(
    original: ir.Model,
    model: ir.Model,
    feeds: Mapping[str, Array] | None,
    target: OnnxRuntime,
    options: Options,
    start: float,
) -> _Decision:
    """Verify the new program against the original, then let an interleaved timing choose between them."""
    try:
        reference = target.lower(original)
    except TamagoError as reason:
        # The runtime cannot run the file: nothing can be verified, so nothing may be changed.
        raise TamagoError(
            reason.code, reason.what, why=reason.why, todo=reason.todo, exit_code=reason.exit_code
        ) from reason
    try:
        program = target.lower(model)
    except TamagoError as reason:
        note = f"the optimised graph does not load, the original is kept: {reason.why}"
        return _Decision(False, reference, 0.0, {}, None, "no gain", [note])
    trials = _feeds(original, feeds)
    if not trials:
        note = "no inputs could be made up for this model: nothing was verified, so the original is kept; pass args"
        return _Decision(False, reference, 0.0, {}, None, "not verified", [note])
    errors: dict[str, float] = {}
    for trial in trials:
        wanted, found = _run_both(reference, program, trial)
        if wanted is None:
            continue
        differences = compare(reference.outputs, wanted, found)
        require(differences)
        for d in differences:
            errors[d.name] = max(errors.get(d.name, 0.0), d.error)
    error = max(errors.values(), default=0.0)
    if not errors:
        note = "the original does not run on made-up inputs: nothing was verified, so the original is kept; pass args"
        return _Decision(False, reference, 0.0, {}, None, "not verified", [note])
    if not options.measure:
        return _Decision(True, program, error, errors, None, "not timed", [])
    timing = _compare_times(target, reference, program, trials[0], options, start)
    if options.objective == "latency" and timing.ratio < NO_SLOWER:
        return _Decision(False, reference, 0.0, {}, timing, "no gain", [])
    return _Decision(True, program, error, errors, timing, "faster", [])


def _run_both(reference: Program, program: Program, feeds: Mapping[str, Array]) -> tuple[Any, Any]:
    try:
        wanted = reference(feeds)
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            return None, None
        raise
    return wanted, program(feeds)


def _feeds(original: ir.Model, feeds: Mapping[str, Array] | None) -> list[Mapping[str, Array]]:
    """The caller's inputs first; where dimensions are free, made-up ones of other sizes."""
    trials: list[Mapping[str, Array]] = [] if feeds is None else [feeds]
    names = {str(d) for v in original.graph.inputs for d in (v.shape or ()) if not isinstance(d, int)}
    if feeds is not None and not names:
        return trials
    sizes: Sequence[dict[str, int]] = [{}] if not names else [{n: 2 for n in names}, {}]
    for seed, size in enumerate(sizes):
        made = make_feeds(original.graph, seed, size)
        if made is not None:
            trials.append(made)
    return trials


def _compare_times(
    target: OnnxRuntime, reference: Program, program: Program, feeds: Mapping[str, Array], options: Options, start: float
) -> reports.Comparison:
    from ..backends.onnxruntime.timing import paired_ratio

    left = 20.0 if options.time_limit is None else max(1.0, options.time_limit - (time.perf_counter() - start))
    runs: list[Callable[[], object]] = [lambda: reference(feeds), lambda: program(feeds)]
    before, after = target.time(runs, seconds=min(left, 8.0))
    ratio, low, high = paired_ratio(before, after)
    return reports.Comparison(before.median, before.spread, after.median, after.spread, ratio, low, high)
