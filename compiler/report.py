"""What was done and why: figures before and after, rules that fired and rules that refused, for people and programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .files import file_bytes
from .flops import flops
from .ir import graphs, op_name, weights

if TYPE_CHECKING:
    from .approximate.account import Approximation
    from .approximate.task import WorkloadTime
    from .front import Point
    from .optimise import Outcome


@dataclass(frozen=True)
class Figures:
    """Size of a model, bodies included.

    Attributes:
        operators: how many nodes of each.
        parameters: elements of all weights.
        bytes: of all weights.
        file: bytes of the model as a file.
        flops: floating-point operations of one run, unknown dimensions counted as 1; None when a shape is missing.
    """

    operators: dict[str, int]
    parameters: int
    bytes: int
    file: int
    flops: int | None

    @classmethod
    def of(cls, model: ir.Model) -> Figures:
        """The figures of a model."""
        every = list(graphs(model.graph))
        counts = Counter(op_name(n) for g in every for n in g)
        tensors = list(weights(model))
        operators = dict(sorted(counts.items()))
        parameters, stored = sum(t.size for t in tensors), sum(t.nbytes for t in tensors)
        return cls(operators, parameters, stored, file_bytes(model), flops(model.graph))

    @property
    def nodes(self) -> int:
        """All nodes."""
        return sum(self.operators.values())


@dataclass(frozen=True)
class Comparison:
    """Interleaved milliseconds of original and result: on one thread, of its own time (see `timing.clock_for`).

    Attributes:
        before: median of the original, as the runtime optimises it by itself.
        after: median of the result.
        ratio: how many times faster the result is: median of the rounds' ratios, with its 95 % interval.
        best_ratio: the same of the fastest samples.
        rounds: samples of each.
    """

    before: float
    before_spread: float
    after: float
    after_spread: float
    ratio: float
    low: float
    high: float
    best_ratio: float
    rounds: int


@dataclass
class Report:
    """One compilation.

    Attributes:
        verdict: "faster", "no slower" (as far as the clock can tell), "smaller", "no larger"; "no gain", "not verified"
            (the original was returned); "not timed", "as it is"; "faster" or "smaller within the budget".
        error: largest relative error of an output against the original, over all inputs tried; of a program within a
            budget on one of the samples that prove.
        errors: the same for each output.
        timing: None of a program within a budget: `approximation.workloads` has its times.
        stages: seconds of each step.
        command: repeats this compilation, when it came from the command line.
        approximation: what was done under an error budget.
        explanation: every place's forms, for `explain`.
        front: all programs of the search that this one is of, where there are several.
    """

    before: Figures
    after: Figures
    verdict: str
    environment: str
    outcome: Outcome | None = None
    notes: list[str] = field(default_factory=list[str])
    error: float = 0.0
    errors: dict[str, float] = field(default_factory=dict[str, float])
    timing: Comparison | None = None
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict[str, float])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    command: str = ""
    approximation: Approximation | None = None
    explanation: list[str] = field(default_factory=list[str])
    front: list[Point] = field(default_factory=list["Point"])

    @property
    def stop(self) -> str:
        """Why the search ended."""
        return "nothing was searched" if self.outcome is None else self.outcome.saturation.stop

    def summary(self) -> str:
        """One line; the speed on each workload, by its shapes."""
        timed = [("", self.timing)] if self.timing is not None else self._workloads()
        speed = "".join(f", {t.ratio:.2f}x ({t.low:.2f}-{t.high:.2f}){name and ' on '}{name}" for name, t in timed)
        return f"{self.verdict}: {self.before.nodes} -> {self.after.nodes} nodes{speed}, error {self.error:.1e}"

    def _workloads(self) -> list[tuple[str, WorkloadTime]]:
        """Each with its name, which is empty where there is one."""
        if self.approximation is None:
            return []
        times, names = self.approximation.workloads, self.approximation.workload_names()
        return list(zip(names if len(times) > 1 else [""], times, strict=False))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        found = asdict(
            self, dict_factory=lambda items: {k: v for k, v in items if k not in ("outcome", "applied", "refused")}
        )
        if self.approximation is not None:
            found["approximation"] = self.approximation.to_dict()
        if self.outcome is None:
            return found | {"rules": {}, "refused": [], "stop": self.stop}
        saturation = self.outcome.saturation
        rules = {
            name: {
                "nodes": count,
                "predicted_ms": round(self.outcome.worth.get(name, 0.0), 6),
                "applied": saturation.applied[name],
            }
            for name, count in sorted(self.outcome.used.items())
        }
        refused = [{"rule": r, "reason": why, "places": n} for (r, why), n in sorted(saturation.refused.items())]
        search = {
            "stop": saturation.stop,
            "seconds": saturation.seconds,
            "rows": saturation.rows,
            "iterations": saturation.iterations,
            "growth": dict(saturation.growth.most_common()),
            "blocks": [{"nodes": n, "repeats": r} for n, r in self.outcome.blocks],
            "folded_nodes": self.outcome.folded,
            "prices_measured": self.outcome.measured,
            "programs_timed": self.outcome.trials,
        }
        return found | {"rules": rules, "refused": refused, "search": search, "stop": self.stop}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=str)

    def save(self, path: str | Path) -> None:
        """Write the report: HTML (one file, no scripts) or, when the name ends in .json, JSON."""
        from .files import write_text

        target = Path(path)
        if target.suffix == ".json":
            write_text(target, self.to_json() + "\n")
            return
        from .report_html import to_html

        write_text(target, to_html(self))

    def rows(self) -> list[tuple[str, str, str]]:
        """The before/after table: what, original, result."""
        found = [
            ("nodes", str(self.before.nodes), str(self.after.nodes)),
            ("parameters", f"{self.before.parameters:,}", f"{self.after.parameters:,}"),
            ("weights", _size(self.before.bytes), _size(self.after.bytes)),
            ("file", _size(self.before.file), _size(self.after.file)),
            ("FLOPs", _count(self.before.flops), _count(self.after.flops)),
        ]
        if self.timing is not None:
            t = self.timing
            before, after = f"{t.before:.3f} ± {t.before_spread:.3f} ms", f"{t.after:.3f} ± {t.after_spread:.3f} ms"
            found.append(("latency", before, after))
            found.append(("speed", "1", f"{t.ratio:.2f}x ({t.low:.2f}-{t.high:.2f})"))
        for name, w in self._workloads():
            which = f", {name}" if name else ""
            found.append((f"latency{which}", f"{w.original:.3f} ms", f"{w.result:.3f} ms"))
            found.append((f"speed{which}", "1", f"{w.ratio:.2f}x ({w.low:.2f}-{w.high:.2f})"))
        found.append(("largest relative error", "", f"{self.error:.1e}"))
        return found

    def __str__(self) -> str:
        width = max(len(r[0]) for r in self.rows())
        lines = [f"{'':{width}}  {'original':>22}  {'tamago':>22}"]
        lines += [f"{a:{width}}  {b:>22}  {c:>22}" for a, b, c in self.rows()]
        lines.append(f"verdict: {self.verdict}; {self.environment}")
        lines.append(f"rules: {self._rules_line()}")
        lines.append(f"search: {self.stop}; {self.seconds:.1f} s in all")
        if self.approximation is not None:
            lines += [*self.approximation.lines(), *(f"note: {n}" for n in self.approximation.notes)]
        lines += [f"front: {point.line()}" for point in self.front]
        lines += [f"note: {n}" for n in self.notes]
        return "\n".join([*lines, *([f"again: {self.command}"] if self.command else [])])

    def _rules_line(self) -> str:
        if self.outcome is None or not self.outcome.used:
            return "none"
        return ", ".join(f"{name} ×{count}" for name, count in self.outcome.used.most_common())

    def explain(self) -> str:
        """Each rule applied, with what it is predicted to save; each refused, with its reasons and how often."""
        if self.outcome is None:
            return "nothing was searched: the program runs as it was saved"
        saturation, lines = self.outcome.saturation, ["applied, with the milliseconds they save by price:"]
        for name, count in self.outcome.used.most_common():
            places = "; ".join(self.outcome.places.get(name, ())[:3])
            lines.append(f"  {name} ×{count}  {self.outcome.worth.get(name, 0.0):+.4f} ms  {places}".rstrip())
        unused = {r: n for r, n in saturation.applied.items() if r not in self.outcome.used}
        lines.append("found, but another program was cheaper:")
        lines += [f"  {name} ×{count}" for name, count in sorted(unused.items())] or ["  none"]
        lines.append("refused:")
        lines += [f"  {name}: {why} ×{n}" for (name, why), n in sorted(saturation.refused.items())] or ["  none"]
        lines += [f"blocks: {', '.join(f'{n} nodes ×{r}' for n, r in self.outcome.blocks[:12])}"]
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes), *self.explanation])


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _count(number: int | None) -> str:
    if number is None:
        return "?"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return str(number)
