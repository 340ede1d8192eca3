"""The process that compiles and measures one kernel's candidates, a line of JSON on standard output for each step."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ...compiler.timing import Timing
from . import library as library  # what the kernels are checked against
from .kernels.gemv import candidates
from .launch import launch_gemv
from .timing import interleave_graphs
from .tune import GemvJob

BESIDES_CACHE = 200e6  # bytes that the copies of the weights hold together
MOST_COPIES = 64
TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}  # relative, of the norm of the result
MOST_PROCESSES = 8


def main() -> None:
    """Measure what the first argument asks for."""
    asked = json.loads(sys.argv[1])
    job = GemvJob(**asked["job"])
    left = [c for c in candidates(job.k, gated=job.gated) if list(c) not in asked["skip"]]
    if len(left) > 1:
        compile_side_by_side(job, left)
    operands = Operands(job)
    for candidate in left:
        say(what="start", candidate=candidate)
        try:
            timing, error = operands.measure(candidate)
        except Exception as reason:
            say(what="failed", candidate=candidate, reason=f"{type(reason).__name__}: {reason}"[:300])
            continue
        if not error <= TOLERANCE[job.dtype]:
            say(what="failed", candidate=candidate, reason=f"its output is off by {error:.2g}")
            continue
        say(what="timing", candidate=candidate, milliseconds=timing.median, spread=timing.spread, error=error)
    say(what="end")


def say(**words: Any) -> None:
    """One line for the parent."""
    print(json.dumps(words), flush=True)


class Operands:
    """Random operands, the weights in as many copies as no cache holds, and the result in double precision."""

    def __init__(self, job: GemvJob) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        dtype = getattr(torch, job.dtype)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device="cuda")

        def weights() -> Tensor:
            return (draw(job.n, job.k) * job.k**-0.5).to(dtype)

        self.job = job
        self.x = draw(1, job.k).to(dtype)
        self.scale = (1 + 0.1 * draw(job.k)).to(dtype) if job.normed else None
        self.residual = draw(1, job.n).to(dtype) if job.residual else None
        size = job.n * job.k * self.x.element_size() * (2 if job.gated else 1)
        count = max(2, min(MOST_COPIES, int(BESIDES_CACHE // size) + 1))
        self.weights = [weights() for _ in range(count)]
        self.gates: Sequence[Tensor | None] = [weights() for _ in range(count)] if job.gated else [None] * count
        self.wanted = self._run_in_double()

    def measure(self, candidate: Sequence[int]) -> tuple[Timing, float]:
        """Milliseconds of one launch, and the relative error of its result."""
        found = self._launch(0, candidate)
        error = float((found.double() - self.wanted).norm() / self.wanted.norm())
        count = len(self.weights)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(count):
                self._launch(i, candidate)
        (timing,) = interleave_graphs([graph.replay], rounds=9, seconds=1.0)
        return Timing(tuple(s / count for s in timing.samples)), error

    def _launch(self, i: int, candidate: Sequence[int]) -> Tensor:
        job = self.job
        return launch_gemv(
            self.x, self.weights[i], self.gates[i], self.scale, self.residual, 1e-5, job.activation, candidate
        )

    def _run_in_double(self) -> Tensor:
        gate = self.gates[0]
        parts = [None if t is None else t.double() for t in (self.weights[0], gate, self.scale, self.residual)]
        w, gate, scale, residual = parts
        assert w is not None
        return library.meaning(self.x.double(), w, gate, scale, residual, 1e-5, self.job.activation)


def compile_side_by_side(job: GemvJob, left: Sequence[Sequence[int]]) -> None:
    """Fill Triton's own cache with processes; what cannot be compiled says so when it is measured."""
    processes = min(MOST_PROCESSES, os.cpu_count() or 1, len(left))
    if processes < 2:
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_compile, [job] * len(left), left))


def _compile(job: GemvJob, candidate: Sequence[int]) -> None:
    dtype = getattr(torch, job.dtype)
    x, w = torch.zeros(1, job.k, dtype=dtype, device="cuda"), torch.zeros(job.n, job.k, dtype=dtype, device="cuda")
    row = torch.zeros(1, job.n, dtype=dtype, device="cuda")
    try:
        launch_gemv(
            x,
            w,
            w if job.gated else None,
            x[0] if job.normed else None,
            row if job.residual else None,
            1e-5,
            job.activation,
            candidate,
        )
    except Exception:  # said again, and reported, where it is measured
        return


if __name__ == "__main__":
    main()
