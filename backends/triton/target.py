"""A CUDA device as a target: what the pipeline asks of a backend, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from triton.errors import TritonError

from ...compiler.approximate.costs import Run
from ...compiler.approximate.float_arithmetic import INTEGER, with_float_activations
from ...compiler.backend import Backend
from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from ...compiler.operators import attach
from ...compiler.price import Site, Stored
from ...compiler.rule import Rule
from ...compiler.site_model import AGREE, agree, made_up, site_model, size_of
from ...compiler.timing import Timing, beside_first, clearly_fastest, decided, interleave, paired_ratio
from ...compiler.trials import Tried, time_alike
from ...compiler.verify import NOISE, compare
from .alternatives import RULES
from .fusion_records import FusionRecords
from .regions import REGIONS, fused_products, merged_linears
from .run import Program, environment
from .timing import interleave_graphs
from .tune import Tuner

MOST_ROUNDS = 25
FEW, MANY = 2, 4  # copies of an operator in the two programs whose difference is its price; more of small ones
BESIDES_CACHE = 150e6  # bytes of weights that the copies read together: the second-level cache holds 50-60 MB
MOST_COPIES = 40
ZEROS = 1  # indices are made up below it: one out of range would end every program on the device
FINISH_SECONDS = 1.0  # for comparing two programs
KERNELS = frozenset(["com.microsoft::MatMulNBits"])  # of other runtimes' operators


@dataclass(frozen=True)
class Cuda:
    """The GPU that torch uses.

    Args:
        store: where tuning records are kept.
        portable: True forbids tamago's own operators (a saved file holds their meaning either way).
    """

    store: Stored
    portable: bool = False
    search_seconds: float = 240.0  # kernels are compiled and tuned in it
    has_halves: bool = True
    runs_side_by_side: bool = False  # a capture must be alone on the device
    forgives: bool = False
    timed: bool = True
    settled: frozenset[str] = frozenset(["Attention", "RotaryEmbedding"])

    @property
    def environment(self) -> str:
        """What prices depend on besides the operator."""
        return environment()

    @property
    def sums_are_wide(self) -> bool:
        """As it makes no products of codes."""
        return True

    def lacks(self, operators: frozenset[str]) -> frozenset[str]:
        """Integer arithmetic, which torch plays in floating point, and other runtimes' operators without a kernel."""
        return frozenset(o for o in operators if o in INTEGER or ("::" in o and o not in KERNELS))

    def own(self, model: ir.Model) -> ir.Model:
        """Without a word on what another runtime may round inside a product, and its products fused again."""
        model = with_float_activations(model)
        if not self.portable:
            model = fused_products(model) or model
            model = merged_linears(model, plain=False) or model
        attach(model)
        return model

    def rules(self) -> tuple[Rule, ...]:
        """Fused forms that there are kernels for."""
        return () if self.portable else RULES

    @property
    def preferences(self) -> Mapping[str, float]:
        """Alone torch takes longer for these than for their parts; with their neighbours they are one kernel."""
        return dict.fromkeys(self.settled, 0.05)

    @property
    def estimate(self) -> None:
        """A processor's roofline does."""

    @property
    def believed(self) -> Backend:
        """Its own runs of the original."""
        return self

    def price(self, site: Site, version: int) -> tuple[float, float, int] | None:
        """Measured milliseconds, spread and samples of one operator; None where it cannot be run alone."""
        size = size_of(site)
        if size is None:
            return None
        many = int(np.clip(BESIDES_CACHE / max(size, 1), MANY, MOST_COPIES))
        try:
            runs = [
                self._replay(*site_model(site, n, version, own_constants=True, integers=ZEROS)) for n in (FEW, many)
            ]
        except (TamagoError, RuntimeError, ValueError, TritonError):
            return None
        if any(run is None for run in runs):
            return None
        one, more = interleave_graphs([run for run in runs if run is not None], rounds=7, seconds=0.5)
        each = (np.asarray(more.samples) - np.asarray(one.samples)) / (many - FEW)
        return max(float(np.median(each)), 1e-5), float(np.std(each)), len(each)

    def lower(self, model: ir.Model, *, optimise: bool = True, inner: bool = False) -> Program:
        """The model as an FX program on the device; not optimised, in single precision what is of half."""
        return Program(model, self._tuner if optimise else None, inner=inner, single=not optimise)

    def layouts(self, model: ir.Model) -> list[ir.Model]:
        """No other layouts are offered yet."""
        del model
        return []

    @property
    def tunes(self) -> bool:
        """Not apart from making a program."""
        return False

    def tune(self, model: ir.Model, feeds: Mapping[str, Array] | None, seconds: float) -> list[str]:
        """What records do not know is measured when a program is made, each kernel within a time of its own."""
        del feeds, seconds
        self.lower(model)
        return ["every kernel's settings are in the records"]

    def finish(self, model: ir.Model, feeds: Mapping[str, Array] | None) -> tuple[ir.Model, list[str]]:
        """The program with what is fused after the choice, where that is faster, and the functions of its operators."""
        given = made_up(model, ZEROS) if feeds is None else feeds
        notes: list[str] = []
        if not self.portable and given is not None:
            model, notes = self._fused(model, given, inner=feeds is None)
        attach(model)
        return model, notes

    def _fused(self, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> tuple[ir.Model, list[str]]:
        """The program with each region that makes it faster, and what each was worth."""
        found, notes, recalled = self._with_regions(model, feeds, inner=inner, recall=True)
        if recalled and not self._agree(model, found, feeds, inner=inner):
            found, notes, _ = self._with_regions(model, feeds, inner=inner, recall=False)
        return found, notes

    def _with_regions(
        self, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool, recall: bool
    ) -> tuple[ir.Model, list[str], bool]:
        """The same, and whether some of it is recalled, without a look at what it computes."""
        shapes = tuple(_shape(feeds[name]) for v in model.graph.inputs if (name := v.name or "") in feeds)
        records = FusionRecords(self.store, self.environment, shapes, inner)
        notes: list[str] = []
        recalled, within, best = False, None, None
        for region in REGIONS:
            for place in region.places(model):
                found = region.fuse(model, place)
                if found is None:
                    continue
                fusion, faster = f"{region.name} {place}", None
                key = records.key(fusion, model, found)
                times = records.recall(key) if recall else None
                recalled |= times is not None and times[1] < times[0]
                if times is None:
                    within = self._noise(model, feeds) if within is None else within
                    best = self._try(model, feeds, inner=inner) if best is None else best
                    if best is None:  # it will not be captured the next time either
                        return model, notes, recalled
                    times, faster = self._beside(best, found, feeds, within, inner=inner)
                    records.keep(key, fusion, times)
                notes.append(f"{region.name}: {times[0]:.4f} ms without, {times[1]:.4f} ms with")
                if times[1] < times[0]:
                    model, best = found, faster
        return model, notes, recalled

    def _agree(self, model: ir.Model, fused: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> bool:
        """Whether two programs compute the same, so far as the first one's own rounding lets them."""
        first, second = (self._outputs(m, feeds, inner=inner) for m in (model, fused))
        if first is None or second is None:
            return False
        return agree(first, second) or agree(first, second, self._noise(model, feeds))

    def _outputs(self, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> Sequence[Any] | None:
        """What a program computes; the program itself is let go, for the next one's weights need its room."""
        tried = self._try(model, feeds, inner=inner)
        return None if tried is None else tried[1]

    def _beside(
        self, best: Tried, model: ir.Model, feeds: Mapping[str, Array], within: float, *, inner: bool
    ) -> tuple[list[float], Tried | None]:
        """Milliseconds of the best program so far and of another, and that one, ready to run, where it is faster.

        One that is not is let go: two programs' weights are on the device, never three.
        """
        other = self._try(model, feeds, inner=inner)
        times = time_alike([best, other], lambda runs: self._timed(runs, FINISH_SECONDS), within)
        assert times is not None  # the first of them runs
        return times, other if times[1] < times[0] else None

    def time_programs(
        self, programs: Sequence[Program], feeds: Mapping[str, Array], *, rounds: int = 21, seconds: float = 20.0
    ) -> list[Timing]:
        """Interleaved timings of two programs: their graphs by the device's clock, whole calls where one has none."""
        replays = [_replay(program, feeds) for program in programs]
        ready = [run for run in replays if run is not None]
        if len(ready) == len(programs):
            return interleave_graphs(ready, rounds=rounds, seconds=seconds, enough=decided)
        calls = [lambda program=program: program(feeds) for program in programs]
        return interleave(calls, rounds=rounds, seconds=seconds, enough=decided)

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        """Milliseconds of calls that do the same, compared round by round; of programs without what they copy."""
        timings = interleave_graphs(list(map(_on_device, runs)), rounds=9, seconds=seconds) if runs else []
        return beside_first(timings) if timings else []

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
        timings = interleave_graphs(list(map(_on_device, runs)), rounds=21, seconds=8.0)
        return [t.median for t in timings], paired_ratio(timings[0], timings[-1])

    def time_blocks(
        self,
        models: Sequence[ir.Model],
        seconds: float,
        feeds: Mapping[str, Array] | None = None,
    ) -> list[float] | None:
        """Milliseconds of programs with the same inputs; infinity for one that differs or cannot be captured."""
        inner = feeds is None  # a block
        feeds = made_up(models[0], ZEROS) if feeds is None else feeds
        if feeds is None:
            return None
        tried = (self._try(model, feeds, inner=inner) for model in models)
        return time_alike(tried, lambda runs: self._timed(runs, seconds))

    def _noise(self, model: ir.Model, feeds: Mapping[str, Array]) -> float:
        """How far two orders of a model's arithmetic may lie apart: so many times what its own rounding costs."""
        try:
            program = self.lower(model)
            own = compare(program.outputs, self.lower(model, optimise=False)(feeds), program(feeds))
        except (TamagoError, RuntimeError, ValueError, TypeError, TritonError):
            return AGREE
        return max([AGREE, *(NOISE * d.error for d in own if np.isfinite(d.error))])

    def _try(self, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> Tried | None:
        try:
            program = self.lower(model, inner=inner)
            outputs = program(feeds)
            replay = _replay(program, feeds)
            return None if replay is None else (replay, outputs)
        except (TamagoError, RuntimeError, ValueError, TypeError, TritonError):
            return None

    def _timed(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[Timing]:
        """Interleaved timings of replays, until one is clearly the fastest."""
        return interleave_graphs(runs, rounds=MOST_ROUNDS, seconds=seconds, enough=clearly_fastest)

    def _replay(self, model: ir.Model, feeds: Mapping[str, Array]) -> Callable[[], object] | None:
        return _replay(self.lower(model, inner=True), feeds)

    @cached_property
    def _tuner(self) -> Tuner:
        return Tuner(self.store, self.environment)


def _shape(feed: Any) -> tuple[Any, ...]:
    """Of a tensor, or of each of a sequence's."""
    return tuple(map(np.shape, feed)) if isinstance(feed, list) else np.shape(feed)


def _on_device(run: Callable[[], object]) -> Callable[[], object]:
    """What a run enqueues on the device, where that is known; a call and its copies else."""
    if not isinstance(run, Run) or not isinstance(run.program, Program):
        return run
    return _replay(run.program, run.feeds) or run


def _replay(program: Program, feeds: Mapping[str, Array]) -> Callable[[], object] | None:
    """The program's captured graph as something to time."""
    captured = program.replayable(program.tensors(feeds))
    return None if captured is None else captured.replay
