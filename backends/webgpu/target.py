"""A WebGPU device as a target: what the pipeline asks of a backend, in one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.float_arithmetic import INTEGER, with_float_activations
from ...compiler.backend import Backend
from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from ...compiler.price import Site, Stored
from ...compiler.rule import Rule
from ...compiler.site_model import made_up
from ...compiler.timing import Timing, clearly_fastest, compared, decided, interleave, side_by_side
from ...compiler.trials import Tried, time_alike
from .device import Device, default_device
from .kernels.registry import KERNELS
from .lowering import plan_of
from .partition import Partitioned
from .records import Records
from .regions import REGIONS
from .run import Loaded
from .speeds import TYPICAL, Speeds, speeds_of
from .tune import tuned

MOST_ROUNDS = 15
FINISH_SECONDS = 1.0  # for comparing two programs
CANDIDATES = 24  # forms of a kernel, at most


@dataclass(frozen=True)
class WebGpu:
    """A device that wgpu finds, or a browser's that nobody knows yet.

    Args:
        device: where programs run; None: the other target runs them here, and prices are those of a typical device.
        store: where tuning records are kept.
        believed: whose outputs a result is compared with, for kernels that are wrong would be wrong for the original
            too; it runs what there is no kernel for.
    """

    device: Device | None
    store: Stored
    believed: Backend
    search_seconds: float = 20.0
    runs_side_by_side: bool = False
    has_halves: bool = True  # sums are in single precision, what lies in memory need not be
    forgives: bool = False  # an index out of range reads something else, and says nothing
    settled: frozenset[str] = frozenset()

    @classmethod
    def of_default_device(cls, store: Stored, believed: Backend) -> WebGpu:
        """The fastest adapter there is.

        Raises:
            TamagoError: B040, wgpu is missing; B041, there is no adapter.
        """
        return cls(default_device(), store, believed)

    @property
    def environment(self) -> str:
        """What prices depend on besides the operator."""
        return "web" if self.device is None else self.device.environment

    @property
    def timed(self) -> bool:
        """Unless it is a browser's, which is not here."""
        return self.device is not None

    @property
    def sums_are_wide(self) -> bool:
        """As shaders make no products of codes."""
        return True

    def lacks(self, operators: frozenset[str]) -> frozenset[str]:
        """Those that there is no loop for, and integer arithmetic: shaders do it no faster than any other."""
        foreign = {o for o in operators if "::" in o} - {f"{domain}::{name}" for domain, name in KERNELS}
        return frozenset(foreign | (operators & INTEGER))

    def own(self, model: ir.Model) -> ir.Model:
        """Without a word on what another runtime may round inside a product: shaders do not."""
        return with_float_activations(model)

    def rules(self) -> tuple[Rule, ...]:
        """Kernels are made for the standard's operators: no others are needed."""
        return ()

    @property
    def preferences(self) -> Mapping[str, float]:
        """None: the estimate knows what shares a kernel."""
        return {}

    @property
    def tunes(self) -> bool:
        """On a GPU: a processor that plays one ranks kernels as no GPU does."""
        return self.device is not None and not self.device.software

    @cached_property
    def records(self) -> Records | None:
        """Which forms of kernels are the fastest here."""
        device = self.device
        return None if device is None else Records(self.store, device.environment, software=device.software)

    @cached_property
    def speeds(self) -> Speeds:
        """What the device does in a millisecond."""
        return TYPICAL if self.device is None else speeds_of(self.device)

    @property
    def estimate(self) -> Callable[[Site], float]:
        """An operator alone says little of what it costs in a kernel with its neighbours: dispatches and bytes do."""
        return self.speeds.estimate

    def price(self, site: Site, version: int) -> tuple[float, float, int] | None:
        """Nothing is measured alone."""
        del site, version
        return None

    def lower(self, model: ir.Model, *, optimise: bool = True) -> Any:
        """The model with generated kernels, in their likeliest forms where not optimised.

        What there are no kernels for is run by the other target, and all of it where there is no device.
        """
        if self.device is None:
            return self.believed.lower(model, optimise=optimise)
        return Partitioned(model, self.device, self.believed.lower, self.records if optimise else None)

    def layouts(self, model: ir.Model) -> list[ir.Model]:
        """No other layouts are offered yet."""
        del model
        return []

    def finish(self, model: ir.Model, feeds: Mapping[str, Array] | None) -> tuple[ir.Model, list[str]]:
        """The program with what is fused after the choice, where that makes fewer dispatches or is faster."""
        notes: list[str] = []
        for region in REGIONS:
            found = region(model)
            gained = None if found is None else self._gain([model, found], feeds)
            if found is not None and gained is not None:
                notes.append(f"{region.__name__.replace('_', ' ')}: {gained}")
                model = found
        return model, notes

    def tune(self, model: ir.Model, feeds: Mapping[str, Array] | None, seconds: float) -> list[str]:
        """Measure forms of a program's kernels and keep the records."""
        end = time.monotonic() + seconds  # writing the forms and loading them count
        feeds = made_up(model, 1) if feeds is None else feeds
        if self.device is None or feeds is None:
            return []
        half, limits = self.device.half, self.device.limits
        try:
            plan, weights = plan_of(model, _shapes(model, feeds), half=half, candidates=CANDIDATES, limits=limits)
            loaded = Loaded(plan, weights, self.device)
        except TamagoError as reason:
            return [f"kernels keep their likeliest forms: {reason.what}"]
        found = tuned(plan, loaded, end - time.monotonic(), self.records)
        pairs = zip(plan.dispatches, found.dispatches, strict=True)
        changed = sum(before.choices[0] != after.choices[0] for before, after in pairs)
        return [f"tuned: {changed} of {len(plan.dispatches)} dispatches take another form than the likeliest"]

    def _gain(self, models: Sequence[ir.Model], feeds: Mapping[str, Array] | None) -> str | None:
        """What the second program has over the first; None where it has nothing.

        A device that a processor plays says nothing of what a dispatch costs on others, and a browser's is not here.
        """
        if self.device is None or self.device.software:
            try:
                before, after = (len(plan_of(m, _shapes(m, feeds))[0].dispatches) for m in models)
            except TamagoError:
                return None
            return f"{before} dispatches without, {after} with" if after < before else None
        times = self.time_blocks(models, FINISH_SECONDS, feeds)
        if times is None or times[1] >= times[0]:
            return None
        return f"{times[0]:.4f} ms without, {times[1]:.4f} ms with"

    def time_programs(
        self, programs: Sequence[Partitioned], feeds: Mapping[str, Array], *, rounds: int = 21, seconds: float = 20.0
    ) -> list[Timing]:
        """Interleaved timings of two programs, inputs and outputs on the device."""
        runs = [program.repeated(feeds) for program in programs]
        return interleave(runs, rounds=rounds, seconds=seconds, enough=decided)

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        """Milliseconds of calls that do the same, compared round by round."""
        return side_by_side(runs, seconds)

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
        return compared(runs)

    def time_blocks(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array] | None = None
    ) -> list[float] | None:
        """Milliseconds of programs with the same inputs; infinity for one that differs or does not load."""
        feeds = made_up(models[0], 1) if feeds is None else feeds
        if feeds is None:
            return None
        tried = (self._try(model, feeds) for model in models)
        return time_alike(
            tried, lambda runs: interleave(runs, rounds=MOST_ROUNDS, seconds=seconds, enough=clearly_fastest)
        )

    def _try(self, model: ir.Model, feeds: Mapping[str, Array]) -> Tried | None:
        try:
            program = self.lower(model)
            return program.repeated(feeds), program(feeds)
        except TamagoError:
            return None


def _shapes(model: ir.Model, feeds: Mapping[str, Array] | None) -> dict[str, tuple[int, ...]]:
    """Of the inputs that are given."""
    inputs = [v.name or "" for v in model.graph.inputs]
    return {name: tuple(np.shape(feeds[name])) for name in inputs if feeds is not None and name in feeds}
