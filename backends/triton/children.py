"""The process that measures candidates, as its parent sees it: it may crash or hang, and another takes its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any
from weakref import finalize

from .jobs import Job, fields_of

SECONDS = 60.0  # for one kernel and shape, compiling not counted; candidates that are left then are not measured
COMPILING = 120.0  # seconds for that, at most
PATIENCE = 30.0  # seconds without a word from the child, its start and compilation included
GLANCE = 0.2  # seconds between two looks at whether it is still there

Record = Mapping[str, Any]


class Children:
    """The measuring process: started when first asked, asked again, and another in its place when it ends."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] = lambda: None
        self._answers: Answers | None = None
        self._deadline = self._latest = 0.0  # for the job that is measured: without compiling, and with all of it

    def measure(self, job: Job) -> tuple[list[Record], list[Record]]:
        """All candidates of a job, measured: (candidate, milliseconds, spread, error), and failures with reasons."""
        timings: list[Record] = []
        failed: list[Record] = []
        self._deadline = time.perf_counter() + SECONDS
        self._latest = self._deadline + COMPILING
        in_vain = 0
        while time.perf_counter() < self._deadline:
            skip = [r["candidate"] for r in (*timings, *failed)]
            last, finished = self._ask({"job": fields_of(job), "skip": skip}, timings, failed)
            if finished:
                break
            self.close()
            if time.perf_counter() >= self._deadline:
                failed.append({"candidate": last, "reason": "the time for this job was up"})
            elif last is not None:
                failed.append({"candidate": last, "reason": "it hung or crashed"})
            elif len(skip) == len(timings) + len(failed):  # it may have died before; a second one says enough
                in_vain += 1
            if in_vain == 2:
                failed.append({"candidate": None, "reason": "the measuring process ended before it measured anything"})
                break
        return timings, failed

    def ahead(self, jobs: Sequence[Job]) -> None:
        """Say what will be asked for, so that it is compiled while others are measured."""
        with suppress(BrokenPipeError):
            print(json.dumps({"ahead": [fields_of(job) for job in jobs]}), file=self._input(), flush=True)

    def close(self) -> None:
        """End the process and those that compile for it, whatever they are doing."""
        self._end()
        self._child = self._answers = None

    def _ask(self, question: Record, timings: list[Record], failed: list[Record]) -> tuple[Sequence[int] | None, bool]:
        """Read answers as they come; the candidate that was being measured when they stopped, and whether all came."""
        current: Sequence[int] | None = None
        try:
            print(json.dumps(question), file=self._input(), flush=True)
        except BrokenPipeError:
            return current, False
        assert self._answers is not None
        for line in self._answers.until(lambda: self._deadline):
            match _parsed(line):
                case {"what": "compiling", "seconds": seconds}:
                    self._deadline = min(self._deadline + seconds, self._latest)
                case {"what": "start", "candidate": candidate}:
                    current = candidate
                case {"what": "timing", **said}:
                    timings.append({k: said[k] for k in ("candidate", "milliseconds", "spread", "error")})
                    current = None
                case {"what": "failed", "candidate": candidate, "reason": reason}:
                    failed.append({"candidate": candidate, "reason": reason})
                    current = None
                case {"what": "end"}:
                    return current, True
                case _:
                    pass  # what a library printed, or half a line of a process that died
        return current, False

    def _input(self) -> IO[str]:
        """Where the process reads, which is started where there is none."""
        if self._child is None:
            words = [sys.executable, "-m", f"{__package__}.tune_child"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            # It ends when its input does; its own processes would outlive its crash, so they are a group with it.
            self._child = subprocess.Popen(words, text=True, start_new_session=True, **pipes)
            self._answers = Answers(self._child)
            self._end = finalize(self, _end, self._child)
        assert self._child.stdin is not None
        return self._child.stdin


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # of a question that it did not live to read
        child.stdin.close()


class Answers:
    """A process' lines as they come: a thread reads them, so that waiting can have an end."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        self._child = child
        self._queue: Queue[str] = Queue()
        self._thread = Thread(target=self._read, args=(child.stdout,), daemon=True)
        self._thread.start()

    def until(self, deadline: Callable[[], float]) -> Iterator[str]:
        """Lines, until there are none for too long, or the process has ended: its own may hold its output open."""
        heard = time.perf_counter()
        while True:
            ended = self._child.poll() is not None
            try:
                line = self._queue.get(timeout=GLANCE)
            except Empty:
                if ended or time.perf_counter() > min(heard + PATIENCE, deadline()):
                    return
                continue
            if not line:
                return
            yield line
            heard = time.perf_counter()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._queue.put(line)
        self._queue.put("")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
