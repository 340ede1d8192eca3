"""Kernels on data of their own: what they compute beside another form's result, and how long they take."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import repeat
from typing import Any, Self

import numpy as np

from ...compiler.facts import Array
from .ahead import Pipelines
from .native import Launch, encode, timestamp_period
from .plan import F16, Choice, Dispatch, Kernel
from .run import Loaded
from .types import NUMPY

LEAST = 6e-3  # seconds of one measurement
IDLE = 0.1  # seconds after which a device is thought to sleep
WAKING = 0.25  # seconds that wake it
ASLEEP = 8.0  # times as long as awake, at most
MOST = 200  # runs of one measurement
REPEATS = 3
TOLERANCE = {"f32": 1e-3, "f16": 1e-2}  # of the largest element
BINDING = re.compile(r"@binding\((\d+)\) var<storage, \w+> \w+: array<(?:vec4<)?(\w+)>")


class Bench:
    """Kernels of a plan, one at a time, on random data: buffers of zeros prove nothing, and may even be faster.

    Args:
        loaded: the plan on the device; its weights are read where a kernel reads weights.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded, self.plan, self.device = loaded, loaded.plan, loaded.device
        self._random = np.random.default_rng(0)
        self._buffers: dict[int, Any] = {}
        self._dispatch: Dispatch | None = None
        self._filling: Array = np.zeros(0, np.uint8)
        self._wanted: Array | None = None
        self._busy = 0.0  # when the device was last seen to work
        self._pipelines = Pipelines(self.plan.kernels, self.device)
        self._clock = _Clock(self.device.gpu) if "timestamps" in self.device.features else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipelines.close()

    def want(self, choices: Iterable[Choice]) -> None:
        """Have choices made ready to be measured soon."""
        for choice in choices:
            self._pipelines.want(choice.kernel)

    def difference(self, dispatch: Dispatch, default: Choice, choice: Choice) -> str:
        """What is wrong with a choice's result, beside the default's; empty: nothing."""
        self._take(dispatch)
        if self._wanted is None:
            self._wanted = self._result(dispatch, default)
        found, wanted = self._result(dispatch, choice), self._wanted
        if found.dtype.kind != "f":
            return "" if np.array_equal(found, wanted) else "the result differs"
        allowed = TOLERANCE["f16" if found.dtype.itemsize == 2 else "f32"]
        regular = np.isfinite(wanted)
        scale = float(np.abs(wanted[regular]).max(initial=0.0)) or 1.0
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.subtract(found[regular], wanted[regular], dtype=np.float64))
            worst = float(apart.max(initial=0.0)) / scale
        return "" if worst <= allowed else f"the result differs by {worst:.2g} of its largest element"

    def time(self, dispatch: Dispatch, choice: Choice, limit: float = float("inf")) -> float:
        """Milliseconds of one run; a first one beyond the limit is believed."""
        self._take(dispatch)
        self._pipelines.get(choice.kernel)  # what has to be waited for: the device may fall asleep meanwhile
        asleep = not self.device.software and time.monotonic() - self._busy > IDLE
        self._elapsed(dispatch, choice, 1)  # the first run also moves data and code
        once = self._elapsed(dispatch, choice, 1)
        if asleep and once * 1e3 <= ASLEEP * limit:
            once = self._wake(dispatch, choice, once)
        if once * 1e3 > limit:
            self._busy = time.monotonic()
            return once * 1e3
        runs = int(np.clip(LEAST / max(once, 1e-9), 1, MOST))
        best = min(self._elapsed(dispatch, choice, runs) for _ in range(REPEATS))
        self._busy = time.monotonic()
        return best / runs * 1e3

    def _wake(self, dispatch: Dispatch, choice: Choice, once: float) -> float:
        """Seconds of one run when the device is awake: one that had nothing to do runs slowly for a while."""
        end = time.monotonic() + WAKING
        while time.monotonic() < end:
            runs = int(np.clip(LEAST / max(once, 1e-9), 1, MOST))
            once = self._elapsed(dispatch, choice, runs) / runs
        return once

    # --- data -------------------------------------------------------------------------------------------------

    def _take(self, dispatch: Dispatch) -> None:
        """Buffers of a dispatch's sizes, filled once."""
        if self._dispatch is dispatch:
            return
        import wgpu

        for buffer in self._buffers.values():
            buffer.destroy()
        self._dispatch, self._wanted, self._buffers = dispatch, None, {}
        kernel = self.plan.kernels[dispatch.choices[0].kernel]
        kinds = _kinds(kernel)
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST  # pyright: ignore
        for place, number in enumerate(dispatch.buffers):
            written = kernel.written[place]
            if number in self._buffers or (number in self.plan.weights and not written):
                continue
            size = self.plan.buffers[number]
            filling = self._filled(kinds[place], size)
            self._buffers[number] = self.device.gpu.create_buffer(size=size, usage=usage)
            self.device.gpu.queue.write_buffer(self._buffers[number], 0, filling)
            if written:
                self._filling = filling

    def _filled(self, kind: str, size: int) -> Array:
        count = size // np.dtype(NUMPY[kind]).itemsize
        if kind in ("i32", "u32"):  # subscripts too: few are always within bounds
            return self._random.integers(0, 2, count).astype(NUMPY[kind])
        return self._random.standard_normal(count, np.float32).astype(NUMPY[kind])

    def _result(self, dispatch: Dispatch, choice: Choice) -> Array:
        kernel = self.plan.kernels[choice.kernel]
        number = dispatch.buffers[kernel.written.index(True)]
        self.device.gpu.queue.write_buffer(self._buffers[number], 0, self._filling)  # what was there is no result
        encoder = self.device.gpu.create_command_encoder()
        compute = encoder.begin_compute_pass()
        self._encode(compute, dispatch, choice, 1)
        compute.end()
        self.device.gpu.queue.submit([encoder.finish()])
        data = self.device.gpu.queue.read_buffer(self._buffers[number])
        return np.frombuffer(data, NUMPY[_kinds(kernel)[kernel.written.index(True)]])

    # --- runs -------------------------------------------------------------------------------------------------

    def _encode(self, compute: Any, dispatch: Dispatch, choice: Choice, runs: int) -> None:
        pipeline, layout = self._pipelines.get(choice.kernel)
        entries = [
            {"binding": i, "resource": {"buffer": self._buffers.get(b, self.loaded.buffers[b]), "offset": 0}}
            for i, b in enumerate(dispatch.buffers)
        ]
        for entry, b in zip(entries, dispatch.buffers, strict=True):
            entry["resource"]["size"] = self.plan.buffers[b]  # pyright: ignore
        bindings = self.device.gpu.create_bind_group(layout=layout, entries=entries)
        encode(compute, repeat(Launch(pipeline, bindings, choice.workgroups), runs))

    def _elapsed(self, dispatch: Dispatch, choice: Choice, runs: int) -> float:
        """Seconds of so many runs, one after another."""
        encoder = self.device.gpu.create_command_encoder()
        start = time.perf_counter()
        compute = encoder.begin_compute_pass(**(self._clock.writes if self._clock else {}))
        self._encode(compute, dispatch, choice, runs)
        compute.end()
        if self._clock:
            self._clock.resolve(encoder)
        self.device.gpu.queue.submit([encoder.finish()])
        if self._clock:
            return self._clock.read()
        out = dispatch.buffers[self.plan.kernels[choice.kernel].written.index(True)]
        self.device.gpu.queue.read_buffer(self._buffers[out], 0, 4)
        return time.perf_counter() - start


class _Clock:
    """The device's own: two time stamps around a pass."""

    def __init__(self, gpu: Any) -> None:
        import wgpu

        self._gpu = gpu
        self._queries = gpu.create_query_set(type="timestamp", count=2)
        usage = wgpu.BufferUsage.QUERY_RESOLVE | wgpu.BufferUsage.COPY_SRC  # pyright: ignore
        self._buffer = gpu.create_buffer(size=16, usage=usage)
        self.writes: dict[str, Any] = {
            "timestamp_writes": {
                "query_set": self._queries,
                "beginning_of_pass_write_index": 0,
                "end_of_pass_write_index": 1,
            }
        }
        self._period = timestamp_period(gpu.queue)

    def resolve(self, encoder: Any) -> None:
        """Have them written where they can be read."""
        encoder.resolve_query_set(self._queries, 0, 2, self._buffer, 0)

    def read(self) -> float:
        """Seconds between them."""
        first, last = np.frombuffer(self._gpu.queue.read_buffer(self._buffer), np.uint64).tolist()
        return (last - first) * self._period * 1e-9


def _kinds(kernel: Kernel) -> list[str]:
    """Element types of a kernel's bindings."""
    found = {int(number): kind for number, kind in BINDING.findall(kernel.source)}
    assert F16 in kernel.features or "f16" not in found.values()
    return [found[i] for i in range(len(kernel.written))]
