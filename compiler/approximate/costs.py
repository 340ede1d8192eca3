"""What each form of a place costs at the caller's shapes: measured side by side, kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from ..errors import TamagoError
from ..facts import Array
from ..price import Stored
from ..record_name import record_name
from ..rule import Expression
from .budget import Workload
from .method import Form
from .places import Place
from .stack import Program
from .write import alone

KEY_VERSION = 2
FAILED = float("inf")
WHOLE_SECONDS = 0.5  # of timing whole programs, for each workload


class Target(Protocol):
    """What costs need of a backend."""

    @property
    def environment(self) -> str:
        """What prices depend on besides the operator."""
        ...

    @property
    def timed(self) -> bool:
        """Whether what runs here runs where it will be used; else nothing says how long it takes."""
        ...

    @property
    def sums_are_wide(self) -> bool:
        """Whether products of unsigned with signed 8-bit codes are added in 32 bits, two neighbours too."""
        ...

    def lacks(self, operators: frozenset[str]) -> frozenset[str]:
        """Which of these operators no approximate form should be written in."""
        ...

    def own(self, model: ir.Model) -> ir.Model:
        """A program of approximate forms, which may change, as it is to be proved, run and saved on this target."""
        ...

    def lower(self, model: ir.Model, *, optimise: bool = True) -> Any:
        """The model as something that can be called with feeds."""
        ...

    def layouts(self, model: ir.Model) -> list[ir.Model]:
        """The same program laid out otherwise; it may round differently, and may be faster."""
        ...

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        """Milliseconds of each, interleaved."""
        ...

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
        ...


@dataclass(frozen=True)
class Run:
    """One call of a program: what a target times, by calling it or, knowing what it is, some other way."""

    program: Program
    feeds: Mapping[str, Array]

    def __call__(self) -> object:
        """Inputs to outputs, copies to and from a device included."""
        return self.program(self.feeds)


def milliseconds_of(target: Target, programs: Sequence[Program], workloads: Sequence[Workload]) -> list[float]:
    """What whole programs take over the workloads with their weights, timed side by side; alike where nothing says."""
    if not target.timed:
        return [1.0] * len(programs)
    totals = [0.0] * len(programs)
    for workload in workloads:
        runs = [Run(program, workload.feeds) for program in programs]
        for i, milliseconds in enumerate(target.time_side_by_side(runs, WHOLE_SECONDS)):
            totals[i] += workload.weight * milliseconds
    return totals


def lowered_copy(target: Target, model: ir.Model) -> Any:
    """A copy of a program of approximate forms, as `target` runs it."""
    return target.lower(target.own(model.clone()))


def lowered(target: Target, term: Expression, dtype: ir.DataType, rank: int, opset: int) -> Any:
    """A form by itself, as `target` runs it; see `alone`."""
    return target.lower(target.own(alone(term, dtype, rank, opset)))


@dataclass
class Costs:
    """Milliseconds of forms, weighted over the workloads.

    Args:
        target: where they run.
        store: where they are kept.
        weights: of the workloads.
        seconds: for one place at one workload.
    """

    target: Target
    store: Stored
    weights: Sequence[float]
    seconds: float = 0.4
    measured: int = 0
    _known: dict[str, float] = field(default_factory=dict[str, float])

    def of(self, place: Place, forms: Mapping[str, Form], shapes: Sequence[tuple[int, ...] | None]) -> dict[str, float]:
        """The cost of each of a place's forms; infinite where one does not run.

        Args:
            place: whose forms they are.
            forms: by what they are called in the store, method and setting; the place as it is comes first.
            shapes: of the place's input at each workload; None: it is not reached there.
        """
        totals = dict.fromkeys(forms, 0.0)
        if not self.target.timed:
            return totals
        programs: dict[str, Any] = {}
        for weight, shape in zip(self.weights, shapes, strict=True):
            if shape is None:
                continue
            keys = {name: self._key(place, name, shape) for name in forms}
            self._measure(place, keys, forms, programs, shape)
            for name, key in keys.items():
                totals[name] += weight * self._known[key]
        return totals

    def _key(self, place: Place, name: str, shape: tuple[int, ...]) -> str:
        stated = sorted((k, str(v)) for k, v in place.attributes.items())
        return record_name(
            [
                KEY_VERSION,
                "form",
                name,
                place.kind,
                place.shape,
                place.bias is not None,
                stated,
                shape,
                self.target.environment,
            ]
        )

    def _lookup(self, key: str) -> float | None:
        if key not in self._known:
            row = self.store.price(key)
            if row is None:
                return None
            self._known[key] = float(row.milliseconds)
        return self._known[key]

    def _program(self, place: Place, form: Form) -> Any:
        dtype = ir.DataType.UINT8 if form.timed is not None else place.x.dtype or ir.DataType.FLOAT
        term = form.term if form.timed is None else form.timed
        rank = len(place.x.shape) if place.x.shape is not None else 2
        try:
            return lowered(self.target, term, dtype, rank, place.opset)
        except TamagoError:
            return None

    def _measure(
        self,
        place: Place,
        keys: Mapping[str, str],
        forms: Mapping[str, Form],
        programs: dict[str, Any],
        shape: tuple[int, ...],
    ) -> None:
        """Time the forms that have no price, beside the place as it is.

        Where that has a price already, theirs are multiples of it: most places are of a shape that was met before and
        offer a rank or two that were not, and a machine that is slower now than it was then is so for all of them.
        """
        unknown = [name for name, key in keys.items() if self._lookup(key) is None]
        if not unknown:
            return
        first = next(iter(keys))
        priced = self._lookup(keys[first])
        floats, codes = {"x": _inputs(place, shape)}, {"x": np.zeros(shape, np.uint8)}
        runs: dict[str, Run] = {}
        for name in dict.fromkeys([first, *unknown]):
            form = forms[name]
            if name not in programs:
                programs[name] = self._program(place, form)
            run = _run(programs[name], floats if form.timed is None else codes)
            if run is not None:
                runs[name] = run
        times = dict(zip(runs, self.target.time_side_by_side(list(runs.values()), self.seconds), strict=True))
        scale = 1.0 if priced is None or first not in times else priced / times[first]
        self._known |= {keys[name]: times[name] * scale if name in times else FAILED for name in unknown}
        for name in [name for name in unknown if name in times]:
            self.store.put_price(keys[name], times[name] * scale, 0.0, 1, {"op": f"form of {place.kind}"})
            self.measured += 1


def _run(program: Any, feeds: Mapping[str, Array]) -> Run | None:
    """One call of a program; None where there is none or it does not run."""
    if program is None:
        return None
    try:
        program(feeds)
    except TamagoError:
        return None
    return Run(program, feeds)


def _inputs(place: Place, shape: tuple[int, ...]) -> Array:
    generator = np.random.default_rng(0)
    if place.kind == "embedding":
        return generator.integers(0, place.shape[0], shape).astype((place.x.dtype or ir.DataType.INT64).numpy())
    size = int(np.prod(shape))
    return np.resize(generator.standard_normal(min(size, 1 << 16)).astype(np.float32), shape)
