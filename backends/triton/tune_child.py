"""The process that compiles and measures one kernel's candidates, a line of JSON on standard output for each step."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from ...compiler.timing import Timing
from .jobs import Job, job_of
from .jobs.subject import Subject
from .timing import interleave_graphs

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
    left = [c for c in job.candidates() if list(c) not in skip]
    if len(left) > 1 and processes > 1:
        # They fill Triton's own cache; what cannot be compiled says so when it is measured.
        list(pool.map(_compile, [job] * processes, [left[i::processes] for i in range(processes)]))
    subject = job.subject()
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


def _compile(job: Job, left: Sequence[Sequence[int]]) -> None:
    subject = job.subject(copies=1)
    for candidate in left:
        with suppress(Exception):  # said again, and reported, where it is measured
            subject.launch(0, candidate)


if __name__ == "__main__":
    main()
