"""Target "cuda" played by the processor: the same programs without kernels and graphs, at made-up costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import pytest

from tamago.backends.triton.run import Program
from tamago.backends.triton.target import Cuda
from tamago.compiler import pipeline
from tamago.compiler.approximate.costs import Run
from tamago.compiler.facts import Array
from tamago.compiler.timing import Timing
from tamago.compiler.trials import Tried


def play(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is compiled be compiled for it."""

    def target(options: Any, store: Any) -> Played:
        assert options.target == "cuda"
        return Played(store, options.portable)

    monkeypatch.setattr(pipeline, "_target", target)


@dataclass(frozen=True)
class Played(Cuda):
    """Programs on the processor; milliseconds are kilobytes."""

    @property
    def environment(self) -> str:
        return "cuda, played"

    def lower(self, model: ir.Model, *, optimise: bool = True, inner: bool = False) -> Program:
        del optimise, inner
        return Program(model, device="cpu")

    def time_programs(self, programs: Sequence[Program], *_: Any, **__: Any) -> list[Timing]:
        return [Timing((_kilobytes(p),) * 6) for p in programs]

    def time_blocks(self, models: Sequence[ir.Model], *_: Any, **__: Any) -> list[float]:
        return [_kilobytes(self.lower(m)) for m in models]

    def _try(self, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> Tried:
        program = self.lower(model, inner=inner)
        return Run(program, feeds), program(feeds)

    def _timed(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[Timing]:
        return [Timing((_cost(run),) * 6) for run in runs]

    def time_side_by_side(self, runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
        return [_cost(run) for run in runs]

    def compare(self, runs: Sequence[Callable[[], object]]) -> tuple[list[float], tuple[float, float, float]]:
        costs = [_cost(run) for run in runs]
        ratio = costs[0] / costs[-1]
        return costs, (ratio, ratio, ratio)


def _cost(run: Callable[[], object]) -> float:
    assert isinstance(run, Run)
    assert isinstance(run.program, Program)
    return _kilobytes(run.program)


def _kilobytes(program: Program) -> float:
    """Of the constants, a little for each kernel, and less for every other call."""
    names = [str(n.target) for n in program.module.graph.nodes if n.op == "call_function"]
    kernels = sum(name.startswith("tamago.") for name in names)
    return sum(b.nbytes for b in program.module.buffers()) / 1e3 + 1e-1 * kernels + 1e-3 * (len(names) - kernels)
