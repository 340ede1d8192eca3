"""ONNX Runtime as a target: what the pipeline asks of a backend, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from ...compiler.approximate.costs import Run
from ...compiler.backend import Backend
from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from ...compiler.ir import weight_bytes
from ...compiler.price import Site
from ...compiler.rule import Rule
from ...compiler.site_model import made_up
from ...compiler.streaming import fit_together, is_too_large
from ...compiler.timing import (
    Clock,
    Timing,
    beside_first,
    clearly_fastest,
    clock_for,
    compared,
    decided,
    interleave,
    paired_ratio,
    side_by_side,
)
from ...compiler.trials import Tried, time_alike
from .alternatives import PREFERENCES, RULES
from .channels_last import channels_last
from .code_sums import sums_are_wide
from .measure import measure
from .run import Program, environment, is_runtime_error
from .streamed import Streamed, time_by_pieces

MOST_ROUNDS = 25  # of blocks: where the fastest is plain after six, no more are made


@dataclass(frozen=True)
class OnnxRuntime:
    """The CPU provider of ONNX Runtime.

    Args:
        threads: of one operator; None lets the runtime choose.
        portable: True forbids operators outside ONNX.
    """

    threads: int | None = None
    portable: bool = False
    search_seconds: float = 6.0
    runs_side_by_side: bool = True
    has_halves: bool = False
    forgives: bool = True
    timed: bool = True
    settled: frozenset[str] = frozenset()

    @property
    def environment(self) -> str:
        """What prices depend on besides the operator."""
        return environment(self.threads)

    @property
    def clock(self) -> Clock:
        """What calls are timed with."""
        return clock_for(self.threads)

    @property
    def sums_are_wide(self) -> bool:
        """Where the processor multiplies codes in one instruction."""
        return sums_are_wide()

    def lacks(self, operators: frozenset[str]) -> frozenset[str]:
        """None: methods are written for it."""
        del operators
        return frozenset()

    def own(self, model: ir.Model) -> ir.Model:
        """As it is."""
        return model

    def rules(self) -> tuple[Rule, ...]:
        """Fused forms that this runtime has kernels for."""
        return () if self.portable else RULES

    @property
    def preferences(self) -> Mapping[str, float]:
        """Factors on prices, for what the runtime makes of an operator that no measurement of it alone can show."""
        return PREFERENCES

    @property
    def estimate(self) -> None:
        """A processor's roofline does."""

    @property
    def believed(self) -> Backend:
        """Its own runs of the original."""
        return self

    def price(self, site: Site, version: int) -> tuple[float, float, int] | None:
        """Measured milliseconds, spread and samples of one operator; None where it cannot be run alone."""
        return measure(site, self.threads, version)

    def lower(self, model: ir.Model, *, optimise: bool = True) -> Program | Streamed:
        """The model as a session; without the runtime's own optimisation when asked.

        A model with more weights than should be held in memory at once is run piece by piece.
        """
        if is_too_large(model):
            return Streamed(model, lambda piece: Program(piece, self.threads, optimise=optimise))
        return Program(model, self.threads, optimise=optimise)

    def layouts(self, model: ir.Model) -> list[ir.Model]:
        """The same program laid out otherwise: integer convolutions in NHWC."""
        found = None if self.portable else channels_last(model)
        return [] if found is None else [found]

    @property
    def tunes(self) -> bool:
        """Not apart from making a program."""
        return False

    def tune(self, model: ir.Model, feeds: Mapping[str, Array] | None, seconds: float) -> list[str]:
        """The runtime has one form of each kernel."""
        del model, feeds, seconds
        return []

    def finish(self, model: ir.Model, feeds: Mapping[str, Array] | None) -> tuple[ir.Model, list[str]]:
        """The program as it is: the runtime has every operator that its rules write."""
        del feeds
        return model, []

    def time_programs(
        self,
        programs: Sequence[Program | Streamed],
        feeds: Mapping[str, Array],
        *,
        rounds: int = 21,
        seconds: float = 20.0,
    ) -> list[Timing]:
        """Interleaved timings of two programs that have run before, until it is plain which is faster."""
        if any(isinstance(program, Streamed) for program in programs):
            return time_by_pieces([(program, feeds) for program in programs], rounds, seconds, self.clock)
        runs = [lambda program=program: program(feeds) for program in programs]
        return interleave(runs, rounds=rounds, seconds=seconds, clock=self.clock, enough=decided, warm=True)

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        """Milliseconds of calls that do the same, compared round by round."""
        streamed = _streamed(runs)
        if streamed is None:
            return side_by_side(runs, seconds, self.clock)
        return beside_first(time_by_pieces(streamed, 9, seconds, self.clock))

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
        streamed = _streamed(runs)
        if streamed is None:
            return compared(runs, self.clock)
        timings = time_by_pieces(streamed, 21, 8.0, self.clock)
        return [t.median for t in timings], paired_ratio(timings[0], timings[-1])

    def time_blocks(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array] | None = None
    ) -> list[float] | None:
        """Milliseconds of programs with the same inputs; infinity for one that differs or does not load.

        Args:
            models: the programs; the first one's outputs are what the others must compute.
            seconds: for all of them.
            feeds: their inputs; made up when None.
        """
        feeds = made_up(models[0]) if feeds is None else feeds
        if feeds is None:
            return None
        if len(models) > 2 and not fit_together(map(weight_bytes, models)):
            return self._time_in_pairs(models, seconds, feeds)
        tried = (_try(model, feeds, self.threads) for model in models)
        race = partial(
            interleave,
            rounds=MOST_ROUNDS,
            seconds=seconds,
            clock=self.clock,
            enough=clearly_fastest,
            racing=True,
            warm=True,
        )
        try:
            return time_alike(tried, race)
        except Exception as error:  # a result of another size each time, where numbers are drawn
            if is_runtime_error(error):
                return None
            raise

    def _time_in_pairs(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array]
    ) -> list[float] | None:
        """As `time_blocks`, each beside the first and then let go: not all of them are in memory at once."""
        first, *others = models
        pairs = [self.time_blocks([first, other], seconds / len(others), feeds) for other in others]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            return None
        return [known[0][0], *(known[0][0] * other / beside for beside, other in known)]


def _streamed(runs: Sequence[Callable[[], object]]) -> list[tuple[Program | Streamed, Mapping[str, Array]]] | None:
    """Calls of programs of which one is not held in memory, as what they call with which inputs; None: all are held."""
    known = [run for run in runs if isinstance(run, Run)]
    if len(known) < len(runs) or not any(isinstance(run.program, Streamed) for run in known):
        return None
    return [(run.program, run.feeds) for run in known if isinstance(run.program, (Program, Streamed))]


def _try(model: ir.Model, feeds: Mapping[str, Array], threads: int | None) -> Tried | None:
    try:
        program = Program(model, threads)
        return program.bound(feeds), program(feeds)
    except TamagoError:
        return None
