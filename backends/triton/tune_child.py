"""The process that compiles and measures kernels' candidates, a line of JSON on standard output for each step.

What it is told of ahead of its turn is compiled while others are measured: by processes that launch no kernel of ours,
since the device must be left to what is timed. (They draw operands there, once for a few candidates.)
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from ...compiler.timing import Timing
from .counters import own_counters
from .early_starts import starting
from .jobs import Job, job_of
from .jobs.subject import Result, Subject, relative_error
from .library.convolution import LIBRARY, LT
from .run import exact_convolutions
from .timing import interleave_graphs

TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}  # relative, of the norm of the result
MOST_PROCESSES = 16
PORTION = 3  # candidates that a process compiles at a time
GLANCE = 2.0  # seconds between two words while something is compiled


def main() -> None:
    """Measure what each line of the input asks for, until it ends; compile what a line says will be asked for."""
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_only_compile) as pool:
        started: dict[Job, list[Future[None]]] = {}
        for line in sys.stdin:
            asked = json.loads(line)
            for fields in asked.get("ahead", ()):
                job = job_of(fields)
                started[job] = _compiled(job, job.candidates(), pool)
            if "job" in asked:
                job = job_of(asked["job"])
                left = [c for c in job.candidates() if list(c) not in asked["skip"]]
                _await(started.pop(job) if job in started else _compiled(job, left, pool))
                _answer(job, left)


def _compiled(job: Job, candidates: Sequence[tuple[int, ...]], pool: ProcessPoolExecutor) -> list[Future[None]]:
    """Candidates on their way into Triton's own cache; what cannot be compiled says so when it is measured."""
    portions = [candidates[i : i + PORTION] for i in range(0, len(candidates), PORTION)]
    return [pool.submit(_compile, job, portion) for portion in portions]


def _await(compiled: Sequence[Future[None]]) -> None:
    """Until all are there; the parent hears that it is worth waiting."""
    while wait(compiled, timeout=GLANCE).not_done:
        say(what="compiling", seconds=GLANCE)


def _answer(job: Job, left: Sequence[tuple[int, ...]]) -> None:
    subject = job.subject()
    wanted = subject.wanted
    for candidate in left:
        say(what="start", candidate=candidate)
        try:
            timing, error = measure(subject, candidate, wanted)
        except Exception as reason:
            say(what="failed", candidate=candidate, reason=f"{type(reason).__name__}: {reason}"[:300])
            if "CUDA error" in str(reason):  # nothing runs in a process after that: another measures the rest
                os._exit(1)  # without waiting for what is still compiled
            continue
        if not error <= TOLERANCE[job.dtype]:
            say(what="failed", candidate=candidate, reason=f"its output is off by {error:.2g}")
            continue
        say(what="timing", candidate=candidate, milliseconds=timing.median, spread=timing.spread, error=error)
    say(what="end")


def say(**words: Any) -> None:
    """One line for the parent."""
    print(json.dumps(words), flush=True)


def measure(subject: Subject, candidate: Sequence[int], wanted: Result) -> tuple[Timing, float]:
    """Milliseconds of one launch, and the relative error of its result."""
    with exact_convolutions(), own_counters(), starting(early=True):  # as what takes microseconds mostly runs
        return _measured(subject, candidate, wanted)


def _measured(subject: Subject, candidate: Sequence[int], wanted: Result) -> tuple[Timing, float]:
    found = subject.launch(0, candidate)
    error = relative_error(found, wanted)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in range(subject.copies):
            subject.launch(copy, candidate)
    (timing,) = interleave_graphs([graph.replay], rounds=9, seconds=1.0)
    return Timing(tuple(s / subject.copies for s in timing.samples)), error


def _only_compile() -> None:
    """Let launches in this process compile the kernel and end there."""
    run: Any = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        del warmup
        return run(self, *args, grid=grid, warmup=True, **options)

    JITFunction.run = compile_only


def _compile(job: Job, portion: Sequence[Sequence[int]]) -> None:
    subject = job.subject(copies=1)
    for candidate in portion:
        if candidate[0] in (LIBRARY, LT):  # nothing to compile, and it would run
            continue
        for early in (False, True):  # a program is captured both ways
            with suppress(Exception), starting(early=early):  # said again, and reported, where it is measured
                subject.launch(0, candidate)


if __name__ == "__main__":
    main()
