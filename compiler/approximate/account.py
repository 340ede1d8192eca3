"""What the report says of an approximation: the budget, the proof, every place's choice, the workloads' times."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .acceptance import Evidence
from .task import Alternative, Outcome, WorkloadTime


@dataclass(frozen=True)
class Try:
    """A choice that was measured: places changed, cost by price, rise predicted, measured, and put to proof.

    `structure` made the program that it is a choice on; empty for the exact one.
    """

    places: int
    cost: float
    predicted: float | None
    on_choosing: Evidence
    proof: Evidence | None
    structure: str = ""


@dataclass
class Approximation:
    """One search under a budget.

    Args:
        budget: in words.
        allowed: the number in it.
        loss: what the loss was taken for.
        chosen_on: numbers of the samples that the choice was made on; the others proved it.
        verified_on: how many samples proved it.
        predicted: the rise that the chosen forms are predicted to make together.
        on_choosing: measured on the choosing samples.
        proof: measured on the others; None: nothing was proved.
        structure: what was done to the whole program first, empty for nothing.
        repair: what was done to it last, and what that was worth; empty for nothing.
        choice: form of every place that changed.
        refused: methods that did not apply: place, method, reason.
        workloads: times of the result.
        attempts: results that were put to proof.
        tried: every choice that was measured.
        variants: structure, setting and measured rise of every whole program that was tried.
    """

    budget: str
    allowed: float
    loss: str
    chosen_on: tuple[int, ...]
    verified_on: int
    predicted: float | None = None
    on_choosing: Evidence | None = None
    proof: Evidence | None = None
    upper: float | None = None
    structure: str = ""
    repair: str = ""
    choice: list[Alternative] = field(default_factory=list[Alternative])
    refused: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    workloads: list[WorkloadTime] = field(default_factory=list[WorkloadTime])
    attempts: int = 0
    tried: list[Try] = field(default_factory=list[Try])
    notes: list[str] = field(default_factory=list[str])
    variants: list[tuple[str, str, float]] = field(default_factory=list[tuple[str, str, float]])

    @property
    def made_of(self) -> tuple[str, str, list[tuple[str, str, str]]]:
        """The same for equal programs of one search."""
        return self.structure, self.repair, [(a.place, a.method, a.setting) for a in self.choice]

    def workload_names(self) -> list[str]:
        """What tells each from the others: its number, and the shapes of the inputs that have several."""
        sizes: dict[str, set[tuple[int, ...]]] = {}
        for w in self.workloads:
            for name, shape in w.shapes.items():
                sizes.setdefault(name, set()).add(tuple(shape))
        several = [name for name, found in sizes.items() if len(found) > 1]
        return [
            ", ".join([f"workload {number}", *(f"{n}{list(w.shapes[n])}" for n in several if n in w.shapes)])
            for number, w in enumerate(self.workloads, 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return asdict(self)

    def without(self) -> Approximation:
        """What is said of the exact program: nothing in it was proved or chosen."""
        if self.proof is None:
            return self
        return replace(
            self,
            predicted=None,
            on_choosing=None,
            proof=None,
            upper=None,
            structure="",
            repair="",
            choice=[],
            workloads=[],
        )

    def lines(self) -> list[str]:
        """For people."""
        found = [f"budget: {self.budget}; loss taken for: {self.loss}"]
        if self.proof is None:
            return [*found, *map(_line, self.tried), "nothing approximate was proved to be within it"]
        found.append(
            f"measured: {self.proof.value:+.4g} ± {self.proof.error:.2g}, at most {self.upper:.4g} (95 %), on "
            f"{self.verified_on} samples that chose nothing; where it was chosen {self._chosen()}"
        )
        if self.structure:
            found.append(f"the whole program: {self.structure}")
        if self.repair:
            found.append(f"retrained: {self.repair}")
        methods: dict[str, int] = {}
        for a in self.choice:
            methods[f"{a.method} ({a.setting})"] = methods.get(f"{a.method} ({a.setting})", 0) + 1
        found.append("forms: " + (", ".join(f"{name} ×{n}" for name, n in sorted(methods.items())) or "none"))
        for name, w in zip(self.workload_names(), self.workloads, strict=True):
            found.append(
                f"{name}: {w.original:.3f} ms, exact {w.exact:.3f} ms, result {w.result:.3f} ms, "
                f"{w.ratio:.2f}x ({w.low:.2f}-{w.high:.2f})"
            )
        return found

    def _chosen(self) -> str:
        measured = "" if self.on_choosing is None else f"{self.on_choosing.value:+.4g}"
        return measured + ("" if self.predicted is None else f" (predicted {self.predicted:+.4g})")


def tries(outcome: Outcome) -> list[Try]:
    """Every choice that was measured, in order."""
    return [Try(len(f.choice), f.cost, f.predicted, f.on_choosing, f.proof, f.tables.structure) for f in outcome.tried]


def _line(found: Try) -> str:
    predicted = "" if found.predicted is None else f", predicted {found.predicted:+.4g}"
    proof = "not put to proof" if found.proof is None else f"proof {found.proof.value:+.4g} ± {found.proof.error:.2g}"
    structure = f"{found.structure}, " if found.structure else ""
    return f"tried: {structure}{found.places} places{predicted}, measured {found.on_choosing.value:+.4g}; {proof}"


def explain(outcome: Outcome, *, timed: bool) -> list[str]:
    """Every place with its forms: chosen or not, what each would store, cost and raise."""
    chosen = {(a.place, a.method, a.setting) for a in (outcome.found.choice if outcome.found else ())}
    lines = [f"places, their forms, {'milliseconds' if timed else 'bytes'} and predicted rise (* chosen):"]
    for table in outcome.found.tables.alternatives if outcome.found else outcome.alternatives:
        changed = any((a.place, a.method, a.setting) in chosen for a in table)
        for a in table:
            star = (a.place, a.method, a.setting) in chosen or (a.method == "exact" and not changed)
            cost = f"{a.cost:.4f} ms, " if timed else f"{a.stored} bytes, " if a.method != "exact" else ""
            lines.append(f" {'*' if star else ' '} {a.place}: {a.method}, {a.setting}: {cost}{a.rise:+.3g}")
    lines += [f" * retrained: {outcome.found.repair}"] if outcome.found is not None and outcome.found.repair else []
    lines += [f"   whole program: {name} {setting}: measured {rise:+.3g}" for name, setting, rise in outcome.variants]
    lines += [f"   {place}: {method}: {reason}" for place, method, reason in outcome.refused]
    return lines
