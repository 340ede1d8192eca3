"""The process that compiles and measures one kernel's candidates, a line of JSON on standard output for each step."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from ...compiler.timing import Timing
from . import library as library  # what the kernels are checked against
from .jobs import AttentionStepJob, GemvJob, Job, job_of
from .kernels import attention_step, gemv
from .launch import launch_attention_step, launch_gemv
from .timing import interleave_graphs

BESIDES_CACHE = 200e6  # bytes that the copies of the weights hold together
MOST_COPIES = 64
TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}  # relative, of the norm of the result
MOST_PROCESSES = 8


def main() -> None:
    """Measure what each line of the input asks for, until it ends."""
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for line in sys.stdin:
            asked = json.loads(line)
            _answer(job_of(asked["job"]), asked["skip"], pool, processes)


def _answer(job: Job, skip: Sequence[Sequence[int]], pool: ProcessPoolExecutor, processes: int) -> None:
    left = [c for c in candidates_of(job) if list(c) not in skip]
    if len(left) > 1 and processes > 1:
        # They fill Triton's own cache; what cannot be compiled says so when it is measured.
        list(pool.map(_compile, [job] * processes, [left[i::processes] for i in range(processes)]))
    subject = subject_of(job)
    for candidate in left:
        say(what="start", candidate=candidate)
        try:
            timing, error = measure(subject, candidate)
        except Exception as reason:
            say(what="failed", candidate=candidate, reason=f"{type(reason).__name__}: {reason}"[:300])
            if "CUDA error" in str(reason):  # nothing runs in a process after that: another measures the rest
                sys.exit(1)
            continue
        if not error <= TOLERANCE[job.dtype]:
            say(what="failed", candidate=candidate, reason=f"its output is off by {error:.2g}")
            continue
        say(what="timing", candidate=candidate, milliseconds=timing.median, spread=timing.spread, error=error)
    say(what="end")


def say(**words: Any) -> None:
    """One line for the parent."""
    print(json.dumps(words), flush=True)


class Subject(Protocol):
    """Random operands of a job, in as many copies as no cache holds, and its result in double precision."""

    copies: int
    wanted: Tensor

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the operands."""
        ...


def candidates_of(job: Job) -> list[tuple[int, int, int]]:
    """Settings worth measuring."""
    if isinstance(job, GemvJob):
        return gemv.candidates(job.k, gated=job.gated)
    return attention_step.candidates(job.length, job.size)


def subject_of(job: Job, *, copies: int | None = None) -> Subject:
    """What a job is measured on."""
    return GemvSubject(job, copies) if isinstance(job, GemvJob) else AttentionStepSubject(job, copies)


def measure(subject: Subject, candidate: Sequence[int]) -> tuple[Timing, float]:
    """Milliseconds of one launch, and the relative error of its result."""
    found = subject.launch(0, candidate)
    error = float((found.double() - subject.wanted).norm() / subject.wanted.norm())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in range(subject.copies):
            subject.launch(copy, candidate)
    (timing,) = interleave_graphs([graph.replay], rounds=9, seconds=1.0)
    return Timing(tuple(s / subject.copies for s in timing.samples)), error


def _copies(size: int, wanted: int | None) -> int:
    return max(2, min(MOST_COPIES, int(BESIDES_CACHE // size) + 1)) if wanted is None else wanted


def _draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device="cuda")


class GemvSubject:
    """A row, and weights that are read from memory each time."""

    def __init__(self, job: GemvJob, copies: int | None) -> None:
        generator, dtype = torch.Generator("cuda").manual_seed(0), getattr(torch, job.dtype)

        def weights() -> Tensor:
            return (_draw(generator, job.n, job.k) * job.k**-0.5).to(dtype)

        self._job = job
        self._x = _draw(generator, 1, job.k).to(dtype)
        self._scale = (1 + 0.1 * _draw(generator, job.k)).to(dtype) if job.normed else None
        self._residual = _draw(generator, 1, job.n).to(dtype) if job.residual else None
        self.copies = _copies(job.n * job.k * self._x.element_size() * (2 if job.gated else 1), copies)
        self._w = [weights() for _ in range(self.copies)]
        gates = [weights() for _ in range(self.copies if job.gated else 0)]
        self._gates: Sequence[Tensor | None] = gates or [None] * self.copies
        operands = (self._w[0], self._gates[0], self._scale, self._residual)
        w, gate, scale, residual = (None if t is None else t.double() for t in operands)
        assert w is not None
        self.wanted = library.meaning(self._x.double(), w, gate, scale, residual, 1e-5, job.activation)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the weights."""
        weights = self._w[copy], self._gates[copy]
        return launch_gemv(self._x, *weights, self._scale, self._residual, 1e-5, self._job.activation, candidate)


class AttentionStepSubject:
    """A cache that is half full, read from memory each time."""

    def __init__(self, job: AttentionStepJob, copies: int | None) -> None:
        generator, dtype = torch.Generator("cuda").manual_seed(0), getattr(torch, job.dtype)
        cache = (1, job.heads, job.length, job.size)

        def draw(*shape: int) -> Tensor:
            return _draw(generator, *shape).to(dtype)

        self._q = draw(1, job.heads * job.shared, 1, job.size)
        self._k, self._v = draw(1, job.heads, 1, job.size), draw(1, job.heads, 1, job.size)
        angle = _draw(generator, job.length, job.size // 2)
        self._cos, self._sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self._position = torch.tensor([job.length // 2], device="cuda")
        self.copies = _copies(2 * self._q.element_size() * job.heads * job.length * job.size, copies)
        self._caches = [(draw(*cache), draw(*cache)) for _ in range(self.copies)]
        self._scale = job.size**-0.5
        q, k, v, cos, sin = (t.double() for t in (self._q, self._k, self._v, self._cos, self._sin))
        keys, values = (t.double() for t in self._caches[0])
        self.wanted = library.attend(q, k, v, cos, sin, self._position, keys, values, self._scale)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the cache."""
        rows = self._q, self._k, self._v, self._cos, self._sin
        return launch_attention_step(*rows, self._position, *self._caches[copy], self._scale, candidate)


def _compile(job: Job, left: Sequence[Sequence[int]]) -> None:
    subject = subject_of(job, copies=1)
    for candidate in left:
        with suppress(Exception):  # said again, and reported, where it is measured
            subject.launch(0, candidate)


if __name__ == "__main__":
    main()
