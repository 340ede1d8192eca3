"""Two programs, one returned: the new one where it computes the same and wins an interleaved timing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .deadline import OutOfTime, stopping_at
from .errors import TamagoError
from .facts import Array
from .report import Comparison, Figures
from .streaming import Streaming
from .timing import paired_ratio
from .verify import Difference, allow_noise, are_numbers, compare, fits_declaration, require, trials

if TYPE_CHECKING:
    from .backend import Backend, Runnable
    from .options import Options

COMPARE_SECONDS = 3.0
VERIFY_SECONDS = 2.0  # no further inputs are made up after this
MADE_UP = 3  # inputs that are enough for a verdict
NOISE = 0.02  # how much the ratio of the fastest samples may contradict the median
BEYOND_DOUBT = 1.02  # a gain that the whole interval of paired ratios lies above
NO_SLOWER = 1.0  # the new program must win its interleaved comparison, or the original is returned
CLOSE, PLACED = 1.05, 10.0  # a gain this small may be where a program of so many milliseconds lies in memory
DOES_NOT_LOAD = "the optimised graph does not load, so the original is kept"
MISREAD = (
    "the runtime's own optimisation of the original changes what it computes, perhaps since the file declares shapes "
    "that are wrong: the result was verified against the file as it is written"
)
NOT_LOADED, NO_ROOM = "B001", "B003"  # what is run piece by piece is loaded only then


class _DoesNotLoad(Exception):
    """The new program is none that the target runs."""


class _NotTaken(Exception):
    """The original itself does not run on these inputs."""


@dataclass
class Decision:
    """Which program is returned and why; whether the new one was found equal, returned or not."""

    won: bool
    program: Runnable
    verdict: str
    errors: dict[str, float] = field(default_factory=dict[str, float])
    timing: Comparison | None = None
    notes: list[str] = field(default_factory=list[str])
    verified: bool = False


def decide(
    original: ir.Model,
    model: ir.Model,
    feeds: Mapping[str, Array] | None,
    target: Backend,
    options: Options,
    until: float,
    changed: bool,
) -> Decision:
    """Verify the new program against the original, then let an interleaved timing choose between them.

    Args:
        original: the model as it came.
        model: what was made of it.
        feeds: inputs to verify and time on; made up when None.
        target: what runs both.
        options: the owner's.
        until: on `time.perf_counter`, when the comparison ends; it takes a second at least.
        changed: whether `model` is another program at all.

    Raises:
        TamagoError: B0xx the target cannot run the original, V001 the results differ.
    """
    # One after the other: two threads that both touch new memory wait for each other's page faults.
    reference = target.lower(original)  # what the runtime cannot run at all cannot be verified: an error
    try:
        program = target.lower(model)
    except TamagoError as reason:
        return Decision(False, reference, "no gain", notes=[f"{DOES_NOT_LOAD}: {reason.why}"])
    believed = reference if target.believed is target else target.believed.lower(original)
    try:
        with stopping_at(until):
            found = _verify(target, original, model, believed, program, feeds)
    except _DoesNotLoad as reason:
        return Decision(False, reference, "no gain", notes=[f"{DOES_NOT_LOAD}: {reason}"])
    except OutOfTime:
        note = "the time limit was over before both programs had run: nothing was verified, so the original is kept"
        return Decision(False, reference, "not verified", notes=[note])
    except _NotVerified as reason:
        return Decision(False, reference, "not verified", notes=[f"{reason}: nothing was verified, so it is kept"])
    errors, notes = found.errors, found.notes
    if not changed:
        notes = [*notes, "no rule found anything to improve"]
        return Decision(False, reference, "no gain", notes=notes, verified=True)
    by_size = partial(_by_size, original, model, reference, program, found) if options.objective == "size" else None
    if not options.measure:
        return by_size(None) if by_size else Decision(True, program, "not timed", errors, notes=notes, verified=True)
    try:
        with stopping_at(until):
            timing = _compare_times(target, reference, program, found.trial, until)
            if wins(timing) and timing.low < CLOSE and timing.before < PLACED:
                timing = min(timing, _compare_anew(target, original, model, found.trial, until), key=lambda t: t.ratio)
    except OutOfTime:
        if by_size:
            return by_size(None)
        notes = [*notes, "the time limit was over before both programs were timed: the original is kept"]
        return Decision(False, reference, "no gain", notes=notes, verified=True)
    if by_size:
        return by_size(timing)
    if not wins(timing):
        return Decision(False, reference, "no gain", {}, timing, notes, verified=True)
    verdict = "faster" if timing.low > NO_SLOWER else "no slower"  # a tie is no gain in speed, nor a loss
    return Decision(True, program, verdict, errors, timing, notes, verified=True)


def _by_size(
    original: ir.Model,
    model: ir.Model,
    reference: Runnable,
    program: Runnable,
    found: _Verified,
    timing: Comparison | None,
) -> Decision:
    """The smaller file, whatever it takes; of two that are as large the one that is no slower."""
    after, before = Figures.of(model).file, Figures.of(original).file
    if after > before or (after == before and timing is not None and not wins(timing)):
        return Decision(False, reference, "no gain", {}, timing, found.notes, verified=True)
    slower = timing is not None and timing.high < NO_SLOWER
    said = [f"the smaller file takes {1 / timing.ratio:.2f} times as long"] if timing is not None and slower else []
    verdict = "smaller" if after < before else "no larger"
    return Decision(True, program, verdict, found.errors, timing, [*found.notes, *said], verified=True)


class _NotVerified(Exception):
    """Why nothing can be said about the new program."""


@dataclass
class _Verified:
    """The largest error of each output over all inputs tried, the first inputs that ran, and what there is to say."""

    errors: dict[str, float]
    trial: Mapping[str, Array]
    notes: list[str]


def _verify(
    target: Backend,
    original: ir.Model,
    model: ir.Model,
    reference: Runnable,
    program: Runnable,
    feeds: Mapping[str, Array] | None,
) -> _Verified:
    """Run both programs side by side on inputs; `model` is what `program` runs.

    Raises:
        TamagoError: V001, the results differ.
        _NotVerified: the original gives nothing to compare with.
        OutOfTime: nothing was compared in the time there was.
    """
    errors: dict[str, float] = {}
    notes: list[str] = []
    refused: list[str] = []
    first: Mapping[str, Array] | None = None
    stacked, ran, start = _stacked(original.graph), 0, time.perf_counter()
    # What is run in pieces has one of them in memory at a time, and ends between two when it is to end.
    side_by_side = target.runs_side_by_side and not isinstance(program, Streaming)
    for made in trials(original.graph, feeds):
        trial = made if target.forgives else _without_risk(made, feeds)
        try:
            wanted, found = _run_both(reference, program, trial, side_by_side)
        except OutOfTime:
            if first is None:
                raise
            break
        except _NotTaken as reason:
            if made is feeds:
                refused = [f"the original does not run on the inputs given, which say nothing here: {reason}"]
            continue
        if not are_numbers(wanted):
            continue
        if not fits_declaration(original.graph, wanted) and not fits_declaration(model.graph, wanted):
            continue  # what the file declares may be wrong, what was inferred too: hardly both
        first, ran = trial if first is None else first, ran + 1
        differences = compare(reference.outputs, wanted, found, stacked)
        if not all(d.passed for d in differences):
            if _is_random(reference, trial, wanted):
                raise _NotVerified("the original draws random numbers, so that no two runs of it agree")
            plain = target.believed.lower(original, optimise=False)(trial)
            differences, said = _beside_as_written(reference.outputs, wanted, plain, found)
            notes = said or notes
        require(differences, elsewhere="" if target.believed is target else "cpu")
        for d in differences:
            errors[d.name] = max(errors.get(d.name, 0.0), d.error)
        if ran == MADE_UP or (ran > 1 and time.perf_counter() - start > VERIFY_SECONDS):
            break
    if first is None:
        made_up = "the original could not be run on made-up inputs, or gives nothing but NaN and infinity (pass args)"
        raise _NotVerified("; ".join(refused) or made_up)
    return _Verified(errors, first, [*refused, *notes])


def _stacked(graph: ir.Graph) -> frozenset[str]:
    """Outputs that loops stack, turn by turn."""
    producers = ((value.name or "", value.producer()) for value in graph.outputs)
    return frozenset(name for name, node in producers if node is not None and node.op_type in ("Loop", "Scan"))


def _beside_as_written(names: Sequence[str], wanted: Any, plain: Any, found: Any) -> tuple[list[Difference], list[str]]:
    """Where the original as the runtime optimises it is not agreed with, what the file itself says decides.

    Args:
        names: of the outputs.
        wanted: the original's.
        plain: the original's without the runtime's own optimisation: the file as it is written.
        found: the new program's.

    Returns:
        The differences, and what there is to say.
    """
    own, as_written = compare(names, wanted, plain), compare(names, plain, found)
    if not all(d.passed for d in as_written):
        return allow_noise(compare(names, wanted, found), own), []
    return as_written, [] if all(np.isfinite(d.error) for d in own) else [MISREAD]


def _is_random(reference: Runnable, feeds: Mapping[str, Array], wanted: Any) -> bool:
    """Whether the original itself differs from one run to the next."""
    return not all(d.passed for d in compare(reference.outputs, wanted, reference(feeds)))


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
    """The outputs of both, side by side where they may: here time is not what is asked.

    Raises:
        _NotTaken: the original fails on them, which says nothing about the new program.
    """
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(program, feeds) if side_by_side else None
        try:
            wanted = reference(feeds)
        except TamagoError as reason:
            if reason.code in (NOT_LOADED, NO_ROOM):
                raise
            raise _NotTaken(reason.why) from reason
        try:
            return wanted, program(feeds) if running is None else running.result()
        except TamagoError as reason:
            if reason.code == NOT_LOADED:
                raise _DoesNotLoad(reason.why) from reason
            raise


def wins(timing: Comparison) -> bool:
    """Whether the new program is returned: faster beyond doubt, or no slower by median and by fastest samples.

    On a busy machine one lucky sample of the original says nothing against rounds that all agree.
    """
    if timing.low > BEYOND_DOUBT:
        return True
    return timing.ratio >= NO_SLOWER and timing.best_ratio >= NO_SLOWER - NOISE


def _compare_anew(
    target: Backend, original: ir.Model, model: ir.Model, feeds: Mapping[str, Array], until: float
) -> Comparison:
    """Both loaded once more, the new program first: one program loaded twice was seen to differ from itself by 4 %."""
    program = target.lower(model)
    reference = target.lower(original)
    for run in (reference, program):
        run(feeds)
    return _compare_times(target, reference, program, feeds, until)


def _compare_times(
    target: Backend, reference: Runnable, program: Runnable, feeds: Mapping[str, Array], until: float
) -> Comparison:
    seconds = max(1.0, min(COMPARE_SECONDS, until - time.perf_counter()))
    before, after = target.time_programs([reference, program], feeds, seconds=seconds)
    ratio, low, high = paired_ratio(before, after)
    rounds = len(before.samples)
    return Comparison(
        before.median, before.spread, after.median, after.spread, ratio, low, high, before.best / after.best, rounds
    )
