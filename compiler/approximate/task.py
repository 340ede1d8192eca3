"""What a search is asked, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..facts import Array
from ..half_storage import bytes_in_file, stored_in_half
from .acceptance import Evidence
from .budget import Budget, Workload
from .calibration import Split
from .costs import Target
from .losses import Structure as OutputStructure
from .method import Method
from .preparation import Preparation
from .repair import Contents, Repair, with_contents
from .structure import Structure

if TYPE_CHECKING:
    from .tables import Tables


@dataclass(frozen=True)
class Task:
    """What is asked.

    Args:
        original: the model as it was given, as a program.
        exact: what exact rewriting made of it.
        split: samples to choose and to prove on.
        budget: what is allowed.
        size: minimise bytes instead of milliseconds.
        workloads: what latency is judged on.
        methods: what may be used at places.
        target: where the program runs.
        store: where costs are kept.
        outputs: the graph's outputs as the owner's functions take them.
        batch: how many examples are run together where they are judged.
        portable: no operators outside ONNX, and no new codes whose products some processors add wrongly.
        until: `time.perf_counter` after which the search only finishes what it has.
        limit: `time.perf_counter` after which a proof is broken off whose passes take so long that they can be.
        structures: what may be done to the whole program first.
        bytes: of the file that is returned where nothing approximate is.
        repairs: what may be done to a chosen program last.
        preparations: exact changes of the exact program that come first.
        halves: weights that half precision holds lie so in the file, as they did in the original's.
    """

    original: Callable[[Mapping[str, Array]], Sequence[Any]]
    exact: ir.Model
    split: Split
    budget: Budget
    size: bool
    workloads: Sequence[Workload]
    methods: Sequence[Method]
    target: Target
    store: Any
    outputs: OutputStructure
    batch: int = 1
    portable: bool = False
    until: float = float("inf")
    limit: float = float("inf")
    structures: Sequence[Structure] = ()
    bytes: float = float("inf")
    repairs: Sequence[Repair] = ()
    preparations: Sequence[Preparation] = ()
    halves: bool = False

    def lacking(self, operators: frozenset[str]) -> frozenset[str]:
        """Which of these operators may not be used."""
        foreign = frozenset(o for o in operators if "::" in o) if self.portable else frozenset[str]()
        return self.target.lacks(operators) | foreign

    def bytes_of(self, constant: ir.Value) -> int:
        """What the file holds of it."""
        if self.halves:
            return bytes_in_file(constant)
        return 0 if constant.const_value is None else constant.const_value.nbytes

    @property
    def sums_are_wide(self) -> bool:
        """Whether products of 8-bit codes are added in 32 bits: here they are, and it is here that the program runs."""
        return self.target.sums_are_wide and not self.portable


@dataclass(frozen=True)
class WorkloadTime:
    """Interleaved milliseconds of one workload: the original, the exact program, the result, and the speed-up.

    `shapes` are those of its inputs, by name.
    """

    weight: float
    original: float
    exact: float
    result: float
    ratio: float
    low: float
    high: float
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])


@dataclass(frozen=True)
class Alternative:
    """One form of one place, as the choice and the report see it; the form itself is kept by the tables.

    `rise` is predicted, `scatter` the predicted variance over examples of what it changes their loss by; `stored` are
    bytes of its constants, `beside` those that a file has beside them.
    """

    place: str
    method: str
    setting: str
    rise: float
    cost: float
    stored: int
    scatter: float = 0.0
    beside: int = 0


@dataclass(frozen=True)
class Choice:
    """What changes, and the program's cost.

    `rise` is what all changes are predicted to do together, with that of the program itself; `level` is what the
    predictions of each add up to, and counts the scatter as well, which the proof has to see past.
    """

    changed: list[Alternative]
    rise: float
    level: float
    cost: float

    @property
    def key(self) -> tuple[tuple[str, str, str], ...]:
        """The same for equal choices on one program."""
        return tuple((a.place, a.method, a.setting) for a in self.changed)


@dataclass
class Found:
    """A choice, measured.

    Args:
        tables: of the program that it is a choice on.
        choice: what was chosen for each place that changed.
        rise: what its changes are predicted to do together, in the predictions' own units.
        level: what the predictions of each add up to, with the price of what scatters.
        predicted: the rise in the judge's units; None where nothing predicts them.
        cost: milliseconds over the workloads, or bytes.
        on_choosing: measured where it was chosen.
        proof: measured on the other samples; None: not yet.
        attempt: which of the proofs that was.
        layout: which of the target's layouts it is in; None: as it is written.
        times: of each workload, measured before the proof.
        contents: of constants that a repair changed, by name.
        repair: which repair, and what it was worth; empty for none.
    """

    tables: Tables
    choice: list[Alternative]
    rise: float
    level: float
    predicted: float | None
    cost: float
    on_choosing: Evidence
    proof: Evidence | None = None
    attempt: int = 0
    layout: int | None = None
    times: Sequence[WorkloadTime] = ()
    contents: Contents = field(default_factory=dict[str, Array])
    repair: str = ""

    def build(self) -> ir.Model:
        """The program: written anew each time, for a search keeps many."""
        model = with_contents(self.tables.build(self.choice), self.contents)
        model = stored_in_half(model) if self.tables.task.halves else model
        return model if self.layout is None else self.tables.task.target.layouts(model)[self.layout]

    @property
    def changes(self) -> bool:
        """Whether it is anything but the exact program."""
        return bool(self.choice or self.tables.structure)


@dataclass
class Outcome:
    """What the search did.

    Args:
        found: the best result proved to be within the budget; None: nothing was.
        tried: every choice that was measured.
        alternatives: those of the exact program's places.
        refused: (place, method, reason).
        notes: what the report should say.
        attempts: results put to proof.
        variants: (structure, setting, measured rise) of each whole program tried.
    """

    found: Found | None = None
    tried: list[Found] = field(default_factory=list[Found])
    alternatives: list[list[Alternative]] = field(default_factory=list[list[Alternative]])
    refused: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    notes: list[str] = field(default_factory=list[str])
    attempts: int = 0
    variants: list[tuple[str, str, float]] = field(default_factory=list[tuple[str, str, float]])
