"""The main line from a model to a program that is verified and decided on, gone down once or, differently, again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from .deadline import stopping_at
from .decide import Decision, decide
from .errors import TamagoError
from .facts import Array
from .garbage import model_set_aside
from .half_storage import round_weights_to_half, stored_in_half, weights_are_halves
from .inference import infer
from .observe import Observer
from .opset import to_target
from .optimise import Outcome, Settings, optimise
from .options import Options
from .prepare import forget_untyped_shapes, prepare
from .price import Prices
from .rule import Rule, Skip
from .single_precision import in_single_precision, may_compute_in_half
from .sizes import sizes_of
from .store import Store
from .streaming import is_too_large

if TYPE_CHECKING:
    from .backend import Backend

TUNE_SECONDS = 30.0  # for the kernels of a whole model
IN_SINGLE = "looked at in single precision, cast at inputs and outputs: the runtime has few kernels for half"
SEARCHING, FIRST = 0.6, 0.3  # of a time limit, when searching ends; so that something is left for another search


class Clock:
    """Seconds since the start and of each stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.stages: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._start

    def until(self, limit: float | None) -> float:
        """On `time.perf_counter`, when a number of seconds since the start is over; None: never."""
        return float("inf") if limit is None else self._start + limit

    def stage(self, name: str) -> None:
        """What was done since the last one ended belongs to this."""
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Attempt:
    """What the main line made of a model.

    Args:
        start: the program that forms look for weights in.
        model: the same as its owner gets it.
        outcome: how it was found.
        decision: whether it is returned.
        notes: what the report should say.
        single: whether it computes in single precision what the model does in half.
    """

    start: ir.Model
    model: ir.Model
    outcome: Outcome
    decision: Decision
    notes: list[str]
    single: bool


@dataclass(frozen=True)
class MainLine:
    """The road from a model to a program.

    Args:
        original: the model as it came; it is not changed.
        feeds: inputs to verify and time on; made up when None.
        options: the owner's.
        target: what it is for.
        store: keeps prices.
        clock: keeps the time of each stage.
        rules: exact ones, of any target.
    """

    original: ir.Model
    feeds: Mapping[str, Array] | None
    options: Options
    target: Backend
    store: Store
    clock: Clock
    rules: Sequence[Rule]

    def bit_identical(self) -> MainLine:
        """The same with rules that change no bit of any result."""
        return replace(self, options=replace(self.options, drift="none"))

    def in_single(self, seconds: float, *, budgeted: bool) -> Attempt | None:
        """A model in half precision goes down it as one in single: where a clock says so, or forms look for weights.

        A model that is too large to be held stays as it is, and so does one that then computes something else.
        """
        original, options = self.original, self.options
        judged = budgeted or (options.measure and options.objective == "latency")  # a file in half is no larger
        asked = options.drift == "rounding" and judged
        if not asked or self.target.has_halves or not may_compute_in_half(original) or is_too_large(original):
            return None
        try:
            found = self.once(seconds, single=True, part=SEARCHING if budgeted else FIRST)
        except Skip:
            return None
        except TamagoError as reason:
            if reason.code != "V001":
                raise
            return None
        return found if found.decision.won or (budgeted and found.decision.verified) else None

    def once(self, seconds: float, *, single: bool = False, part: float = SEARCHING) -> Attempt:
        """The main line once: IR, optimised with so many seconds of measuring, verified, decided.

        Args:
            seconds: of measuring.
            single: whether what is of half precision is computed in single.
            part: of the time limit, when searching ends.

        Raises:
            Skip: single precision was asked for, and cannot take the place of half.
        """
        original, feeds, options, target, clock = self.original, self.feeds, self.options, self.target, self.clock
        with model_set_aside():
            model, notes = _to_ir(original, options)
            notes += _as_single(model) if single else []
        clock.stage("prepare")
        with model_set_aside():
            outcome = self._optimise(model, seconds, part)
        forget_untyped_shapes(model)
        start, finished = target.finish(model, feeds)
        notes += finished
        if single and weights_are_halves(original):
            round_weights_to_half(start.graph)
        model = stored_in_half(start) if single else start
        clock.stage("optimise")
        changed = outcome.changed or outcome.folded > 0 or bool(notes)
        until = clock.until(options.time_limit)
        if options.measure and target.tunes:
            left = until - time.perf_counter()
            notes += target.tune(model, feeds, max(0.0, min(TUNE_SECONDS, left / 2)))
            clock.stage("tune")
        decision = decide(original, model, feeds, target, options, until, changed)
        clock.stage("verify and time")
        return Attempt(start, model, outcome, decision, notes, single)

    def _optimise(self, model: ir.Model, seconds: float, part: float) -> Outcome:
        feeds, options, target = self.feeds, self.options, self.target
        until = float("inf")
        if options.time_limit is not None:
            until = time.perf_counter() + max(0.0, options.time_limit * part - self.clock.seconds)
        version = model.opset_imports.get("", 1)
        sizes = sizes_of(model.graph, feeds)
        settings = Settings(
            rules=(*self.rules, *target.rules()),
            drift=options.drift,
            limits=options.limits,
            seconds=seconds,
            until=until,
            target=target if options.measure else None,
            observe=None if feeds is None else Observer(model, feeds, target.lower),
            made_up=not sizes,
            strict=options.strict,
        )
        measure = (lambda site: target.price(site, version)) if options.measure else None
        prices = Prices(
            self.store, target.environment, measure, target.preferences, sizes, target.settled, target.estimate
        )
        with stopping_at(until):
            return optimise(model, settings, prices, infer)


def _to_ir(original: ir.Model, options: Options) -> tuple[ir.Model, list[str]]:
    """A copy of the model that satisfies the IR's invariants."""
    model = original.clone()
    notes = prepare(model, options.keep)
    notes += to_target(model)
    infer(model)
    return model, notes


def _as_single(model: ir.Model) -> list[str]:
    """Write a model in half precision in single, in place; what the report should say."""
    in_single_precision(model)
    if is_too_large(model):
        raise Skip("its weights in single precision are too many to be held in memory")
    infer(model)
    return [IN_SINGLE]
