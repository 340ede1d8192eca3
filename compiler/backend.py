"""What the pipeline asks of a backend, in one protocol; `backends/<target>/target.py` is each one's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import onnx_ir as ir

from .approximate.costs import Target as CostsTarget
from .facts import Array
from .optimise import Target as BlocksTarget
from .price import Site
from .rule import Rule
from .timing import Timing


class Runnable(Protocol):
    """A model ready to run on a target."""

    inputs: list[str]
    outputs: list[str]
    note: str  # what the report should say of how it runs

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Outputs in the graph's order."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """A program that takes torch's tensors by reference and leaves its results on its device."""

    def run_by_name(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs in the graph's order, from tensors or arrays by name."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A program that leaves on its device what one call hands on to the next."""

    def run_keeping(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs in the graph's order; those that take the place of an input as the device holds them."""
        ...


class Backend(BlocksTarget, CostsTarget, Protocol):
    """A target."""

    @property
    def search_seconds(self) -> float:
        """For measuring, over a whole model."""
        ...

    @property
    def runs_side_by_side(self) -> bool:
        """Whether two programs may run at the same time."""
        ...

    @property
    def has_halves(self) -> bool:
        """Whether it computes in half precision what is written so, and not in single."""
        ...

    @property
    def forgives(self) -> bool:
        """Whether an index out of range is an error that can be caught, and not the end of every program."""
        ...

    def rules(self) -> tuple[Rule, ...]:
        """Operators that only this target has."""
        ...

    @property
    def preferences(self) -> Mapping[str, float]:
        """Factors on prices that no measurement of an operator alone can show."""
        ...

    @property
    def settled(self) -> frozenset[str]:
        """Operators that no trial leaves out: `finish` makes more of them than a trial of a block can show."""
        ...

    @property
    def estimate(self) -> Callable[[Site], float] | None:
        """Milliseconds of an operator that was not measured; None: a processor's roofline."""
        ...

    @property
    def believed(self) -> Backend:
        """Whose outputs a result is compared with: this target's own for the original, or another's."""
        ...

    def price(self, site: Site, version: int) -> tuple[float, float, int] | None:
        """Measured milliseconds, spread and samples of one operator; None where it cannot be run alone."""
        ...

    def lower(self, model: ir.Model, *, optimise: bool = True) -> Any:
        """The model as a `Runnable`; when asked without the target's own optimisation, or in another precision.

        What such a run differs by says how steady the model itself is.
        """
        ...

    @property
    def tunes(self) -> bool:
        """Whether a program's kernels are measured before it is compared with the original."""
        ...

    def tune(self, model: ir.Model, feeds: Mapping[str, Array] | None, seconds: float) -> list[str]:
        """Measure forms of a program's kernels and keep the records; what there is to say of it.

        Args:
            model: as it is to be run.
            feeds: inputs of the sizes that count; made up when None.
            seconds: to measure for, at most.
        """
        ...

    def finish(self, model: ir.Model, feeds: Mapping[str, Array] | None) -> tuple[ir.Model, list[str]]:
        """The rewritten model as it is to be run and saved, and notes for the report."""
        ...

    def time_programs(
        self, programs: Sequence[Any], feeds: Mapping[str, Array], *, rounds: int = 21, seconds: float = 20.0
    ) -> list[Timing]:
        """Interleaved timings of two programs, until it is plain which is faster."""
        ...

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        """Median milliseconds of each, and how many times faster the last is than the first, with its 95 % interval."""
        ...
