"""Each kernel's settings, chosen by measuring on the device; every record is kept.

A record's key names all that a time depends on: kernel, shapes, what is fused, dtype, device and versions. Candidates
are compiled side by side and measured in a child process (`tune_child`), which checks an output before its time counts;
one that hangs or crashes takes the child with it and nothing else. What a child has measured is kept as it comes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any
from weakref import finalize

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ...compiler.ir import dims
from ...compiler.price import Stored
from ...compiler.progress import progress
from .lowering import CANDIDATE, LINEAR
from .records import shipped

KEY_VERSION = 1
SECONDS = 60.0  # for one kernel and shape; candidates that are left then are not measured
PATIENCE = 30.0  # seconds without a word from the child, its start and compilation included
GLANCE = 0.2  # seconds between two looks at whether it is still there


@dataclass(frozen=True)
class GemvJob:
    """One row times n rows of k weights, and what is fused with it."""

    n: int
    k: int
    dtype: str
    gated: bool
    normed: bool
    residual: bool
    activation: str
    kernel: str = "gemv"

    def __str__(self) -> str:
        return f"{self.kernel} {self.n}x{self.k} {self.dtype}"


@dataclass(frozen=True)
class AttentionStepJob:
    """A step of attention over a cache of so many slots."""

    heads: int
    shared: int
    size: int
    length: int
    dtype: str
    kernel: str = "attention_step"

    def __str__(self) -> str:
        return f"{self.kernel} {self.heads}x{self.shared}x{self.size}, {self.length} slots, {self.dtype}"


Job = GemvJob | AttentionStepJob


def job_of(fields: Mapping[str, Any]) -> Job:
    """The job that `asdict` made these fields of."""
    return GemvJob(**fields) if fields["kernel"] == "gemv" else AttentionStepJob(**fields)


class Tuner:
    """Picks settings from the records, or measures.

    Args:
        store: where records are kept.
        environment: device and versions.
        measure: False takes what the records have, and the kernel's defaults else.
    """

    def __init__(self, store: Stored, environment: str, *, measure: bool = True) -> None:
        self._store, self._environment, self._measure = store, environment, measure
        self._children = Children()

    def choose(self, module: fx.GraphModule, model: ir.Model) -> None:
        """Write the settings into every call of a kernel in a program that was made of a model."""
        written = {n.name: n for n in model.graph.all_nodes()}
        for target, place in CANDIDATE.items():
            for node in module.graph.find_nodes(op="call_function", target=target):
                source = written.get(node.meta["onnx"][2])
                job = _gemv(module, node) if target is LINEAR else _attention_step(source)
                if job is not None:
                    node.update_arg(place, self.candidate(job))
        module.recompile()

    def candidate(self, job: Job) -> list[int] | None:
        """The fastest settings known for a job; measured when there is no record. None: the kernel's defaults."""
        key = self.key(job)
        record = self._store.verdict(key) or shipped(asdict(job), self._environment)
        if record is None and self._measure:
            record = self._tune(job)
            if record["timings"]:
                self._store.put_verdict(key, record)
        timings = [] if record is None else record["timings"]
        return list(min(timings, key=lambda t: t["milliseconds"])["candidate"]) if timings else None

    def key(self, job: Job) -> str:
        """The record's name in the store."""
        text = json.dumps(["tune", KEY_VERSION, asdict(job), self._environment], sort_keys=True)
        return blake2b(text.encode(), digest_size=20).hexdigest()

    def _tune(self, job: Job) -> dict[str, Any]:
        progress(f"tuning {job}")
        timings, failed = self._children.measure(job)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "job": asdict(job),
            "environment": self._environment,
            "date": now,
            "timings": timings,
            "failed": failed,
        }


Record = Mapping[str, Any]


class Children:
    """The measuring process: started when first asked, asked again, and another in its place when it ends."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] = lambda: None
        self._answers: Answers | None = None

    def measure(self, job: Job) -> tuple[list[Record], list[Record]]:
        """All candidates of a job, measured: (candidate, milliseconds, spread, error), and failures with reasons."""
        timings: list[Record] = []
        failed: list[Record] = []
        deadline = time.perf_counter() + SECONDS
        while time.perf_counter() < deadline:
            skip = [r["candidate"] for r in (*timings, *failed)]
            last, finished = self._ask({"job": asdict(job), "skip": skip}, timings, failed, deadline)
            if finished:
                break
            self.close()
            if last is None:  # it never came to measuring: nothing more is learnt by asking again
                failed.append({"candidate": None, "reason": "the measuring process ended before it measured anything"})
                break
            failed.append({"candidate": last, "reason": "it hung or crashed"})
        return timings, failed

    def close(self) -> None:
        """End the process and those that compile for it, whatever they are doing."""
        self._end()
        self._child = self._answers = None

    def _ask(
        self, question: Record, timings: list[Record], failed: list[Record], deadline: float
    ) -> tuple[Sequence[int] | None, bool]:
        """Read answers as they come; the candidate that was being measured when they stopped, and whether all came."""
        if self._child is None:
            words = [sys.executable, "-m", f"{__package__}.tune_child"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            # It ends when its input does; its own processes would outlive its crash, so they are a group with it.
            self._child = subprocess.Popen(words, text=True, start_new_session=True, **pipes)
            self._answers = Answers(self._child)
            self._end = finalize(self, _end, self._child)
        assert self._child.stdin is not None
        current: Sequence[int] | None = None
        try:
            print(json.dumps(question), file=self._child.stdin, flush=True)
        except BrokenPipeError:
            return current, False
        assert self._answers is not None
        for line in self._answers.until(deadline):
            match _parsed(line):
                case {"what": "start", "candidate": candidate}:
                    current = candidate
                case {"what": "timing", **said}:
                    timings.append({k: said[k] for k in ("candidate", "milliseconds", "spread", "error")})
                case {"what": "failed", "candidate": candidate, "reason": reason}:
                    failed.append({"candidate": candidate, "reason": reason})
                case {"what": "end"}:
                    return current, True
                case _:
                    pass  # what a library printed, or half a line of a process that died
        return current, False


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

    def until(self, deadline: float) -> Iterator[str]:
        """Lines, until there are none for too long, or the process has ended: its own may hold its output open."""
        heard = time.perf_counter()
        while True:
            ended = self._child.poll() is not None
            try:
                line = self._queue.get(timeout=GLANCE)
            except Empty:
                if ended or time.perf_counter() > min(heard + PATIENCE, deadline):
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


def _attention_step(node: ir.Node | None) -> AttentionStepJob | None:
    """What a step asks for; None where its shapes are not known before it runs."""
    if node is None or node.inputs[0] is None or node.inputs[6] is None:
        return None
    query, cache = node.inputs[0], node.inputs[6]
    q, shape = dims(query), dims(cache)
    if q is None or shape is None or cache.dtype is None:
        return None
    sizes = [d for d in (*q, *shape) if isinstance(d, int)]
    if len(sizes) != 8:
        return None
    _, queries, _, _, _, heads, length, size = sizes
    return AttentionStepJob(heads, queries // heads, size, length, str(cache.dtype.numpy()))


def _gemv(module: fx.GraphModule, node: fx.Node) -> GemvJob | None:
    """What a product asks for; None where its weight is no constant of the program."""
    _, w, gate, scale, residual, _, activation, _ = node.args
    weight = _constant(module, w)
    if weight is None:
        return None
    n, k = weight.shape
    dtype = str(weight.dtype).removeprefix("torch.")
    return GemvJob(n, k, dtype, gate is not None, scale is not None, residual is not None, str(activation))


def _constant(module: fx.GraphModule, argument: Any) -> Tensor | None:
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    found: Any = module
    for name in str(argument.target).split("."):
        found = getattr(found, name)
    return found if isinstance(found, torch.Tensor) else None
